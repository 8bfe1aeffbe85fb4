"""The HTTP pages of a worker: whether it is alive, whether it is ready, its health, and its metrics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import exposition as prometheus
from prometheus_client.openmetrics import exposition as openmetrics

from memory_worker import __version__
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.http.server import Page, Source
from memory_worker.inspection.status import Status
from memory_worker.telemetry.health import MAX_STALL_S, Component, Health
from memory_worker.telemetry.metrics import JOBS, READS, REGISTRY
from memory_worker.telemetry.reading import total

_OPENMETRICS = "application/openmetrics-text"
_RATE_OVER_S = 60.0
_SAMPLE_EVERY_S = 1.0
_MOST_NEEDS = 10
"""Producers choose the kinds that partitions are held for."""


class Rates:
    """The jobs and reads per second of this process, over the last minute."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._samples: deque[tuple[float, float, float, float]] = deque()
        self.sample()

    def sample(self) -> None:
        """Record the counters, at most once per second."""
        now = self._now()
        if self._samples and now - self._samples[-1][0] < _SAMPLE_EVERY_S:
            return
        self._samples.append((now, total(JOBS, outcome="applied"), total(JOBS, outcome="dead"), total(READS)))
        while now - self._samples[0][0] > _RATE_OVER_S:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """Return the rates over the samples of the last minute. May be called in any thread."""
        (began, *first), (ended, *last) = self._samples[0], self._samples[-1]
        over_s = max(ended - began, 1e-9)
        names = ("applied", "dead", "reads")
        return {name: round((b - a) / over_s, 3) for name, a, b in zip(names, first, last, strict=True)}


def pages(health: Health, role: str, stats: Callable[[], Status | None], rates: Rates) -> dict[str, Source]:
    """Return the page of each path. ``stats`` returns the latest queue stats, if there are any."""
    return {
        "/livez": Source(lambda _: _livez(health), is_probe=True),
        "/readyz": Source(lambda _: _readyz(health), is_probe=True),
        "/health": Source(lambda _: _health(health, role, stats(), rates.per_second())),
        "/metrics": Source(lambda wanted: _metrics(health, wanted), formats=(_OPENMETRICS,)),
    }


def _livez(health: Health) -> Page:
    stalled_s = health.stalled_s()
    alive = stalled_s < MAX_STALL_S
    return _json(200 if alive else 503, {"alive": alive, "event_loop_stalled_s": round(stalled_s, 3)})


def _readyz(health: Health) -> Page:
    components = health.components()
    ready = _all_up(components)
    return _json(200 if ready else 503, {"ready": ready, "components": components})


def _health(health: Health, role: str, stats: Status | None, rates: dict[str, float]) -> Page:
    components = health.components()
    document = {
        "status": "ok" if _all_up(components) else "degraded",
        "version": __version__,
        "contract": CONTRACT_VERSION,
        "role": role,
        "uptime_s": round(health.uptime_s, 3),
        "components": components,
        "rates": {"over_s": _RATE_OVER_S, "of": "this process", "per_second": rates},
        "queue": _queue(stats),
        "collections": stats.collections if stats else None,
        "store_error": stats.store_error if stats else None,
    }
    return _json(200, document)


def _all_up(components: dict[str, Component]) -> bool:
    return all(component.up for component in components.values())


def _queue(stats: Status | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    return {
        "at": stats.at,
        "partitions": stats.partition_count,
        "waiting": stats.waiting,
        "waiting_bytes": stats.waiting_bytes,
        "oldest_age_s": stats.oldest_age_s,
        "draining": stats.draining,
        "paused": stats.paused,
        "held": sum(state.held for state in stats.partitions),
        "held_needs": sorted({state.needs for state in stats.partitions if state.needs})[:_MOST_NEEDS],
        "dead": stats.dead,
        "arq_writes_waiting": stats.arq_writes_waiting,
        "reads_waiting": stats.reads_waiting,
    }


def _metrics(health: Health, wanted: str) -> Page:
    health.report()
    exposition = openmetrics if wanted == _OPENMETRICS else prometheus
    return Page(200, exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(REGISTRY))


def _json(status: int, document: Any) -> Page:
    return Page(status, "application/json", msgspec.json.encode(document) + b"\n")
