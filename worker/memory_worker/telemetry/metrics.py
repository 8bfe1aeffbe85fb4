"""What this process tells Prometheus: every metric, its labels and its unit, in one place.

All begin with ``memory_worker_``, beside those of prometheus-client about the process. No label grows with users: what
comes from outside is counted as ``unknown``. What concerns the whole queue is told by one replica at a time, so that
sums stay right: see `memory_worker.inspection.queue_stats`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

PREFIX: Final = "memory_worker"
UNKNOWN: Final = "unknown"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOBS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000)
_BYTES = tuple(float(4**n) for n in range(5, 15))  # 1 KiB to 256 MiB

OPS: Final = ("upsert", "delete", "purge")
REASONS: Final = ("malformed", "invalid", "refused", "crashed", "superseded")
BREAKER_STATES: Final = ("closed", "open", "half-open")
ROLES: Final = ("ingest", "search")
READ_OPS: Final = ("search", "get", "info")
READ_OUTCOMES: Final = ("ok", "invalid", "too_large", "timeout", "unavailable", "internal")

REGISTRY: Final = CollectorRegistry()


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"{PREFIX}_{name}", meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=REGISTRY)


INFO = _gauge("info", "Always 1; the labels say what runs.", "version", "role", "contract")
COMPONENT_UP = _gauge("component_up", "Whether a part is usable, as /readyz reports it.", "component")
EVENT_LOOP_LAG = _gauge("event_loop_lag_seconds", "How late the event loop was at most, within the last minute.")

JOBS = _counter("jobs_total", "Jobs that left the queue.", "op", "kind", "outcome")
PUSH_TO_APPLIED = _histogram(
    "push_to_applied_seconds", "From the push of a job until it was applied, by Redis's clock."
)
BATCH_JOBS = _histogram("batch_jobs", "Jobs in a batch that was committed.", buckets=_JOBS)
BATCH_BYTES = _histogram("batch_bytes", "Bytes of jobs in a batch that was committed.", buckets=_BYTES)
DEAD_LETTERS = _counter("dead_letters_total", "Jobs that became dead letters.", "reason", "op")

DRAINS = _counter("drains_total", "Drains, by how they ended.", "ending")
LEASES_HELD = _gauge("leases_held", "Partitions that this process drains now.")
LEASES = _counter("leases_total", "Leases asked for or lost; taken_over: the drain before never ended.", "outcome")
RETRIES = _counter("retries_total", "Drains that will be tried again after an outage.", "reason")
BACKOFF = _counter("backoff_seconds_total", "Seconds for which drains were put off after an outage.", "reason")
BREAKER = _gauge("breaker_state", "1 for the state of the circuit breaker to Qdrant, 0 for the others.", "state")

READS = _counter("reads_total", "Read jobs answered.", "op", "outcome")
READ_QUEUE = _histogram("read_queue_seconds", "From the push of a read job until it was begun, by Redis's clock.", "op")
READ_ENGINE = _histogram("read_engine_seconds", "The engine's own time for a read job.", "op")
READ_DURATION = _histogram("read_duration_seconds", "From the push of a read job until its reply.", "op")

QDRANT_REQUESTS = _histogram("qdrant_request_duration_seconds", "Requests to Qdrant.", "method", "code")
REDIS_REQUESTS = _histogram("redis_request_duration_seconds", "Requests to Redis.", "command", "code")
ROLE_RESTARTS = _counter("role_restarts_total", "Times that the arq worker of a role was built anew.", "role")


@functools.cache
def expose_process() -> None:
    """Add what prometheus-client tells of the process; done twice it counts once."""
    disable_created_metrics()  # when each series began says nothing here, and doubles their number
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=REGISTRY)


def start_at_zero() -> None:
    """Make the counters that alerts watch: a counter that first appears as 1 has not increased, for Prometheus."""
    for reason, op in product(REASONS, (*OPS, UNKNOWN)):
        DEAD_LETTERS.labels(reason, op)
    for op, outcome in product(READ_OPS, READ_OUTCOMES):
        READS.labels(op, outcome)
    for role in ROLES:
        ROLE_RESTARTS.labels(role)
    for outcome in ("acquired", "busy", "taken_over", "lost"):
        LEASES.labels(outcome)
    breaker_is("closed")


def breaker_is(state: str) -> None:
    """Note the state of the circuit breaker."""
    for known in BREAKER_STATES:
        BREAKER.labels(known).set(known == state)


class Timed:
    """A request being timed; ``code`` says how it ended."""

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code = "OK"


@contextlib.contextmanager
def timed(requests: Histogram, name: str) -> Iterator[Timed]:
    """Observe the length of the block, under ``name`` and its code; an error nobody gave a code counts by its class."""
    request, started = Timed(), time.perf_counter()
    try:
        yield request
    except BaseException as error:
        if request.code == "OK":
            request.code = type(error).__name__
        raise
    finally:
        requests.labels(name, request.code).observe(time.perf_counter() - started)
