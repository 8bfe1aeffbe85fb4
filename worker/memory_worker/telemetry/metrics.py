"""Every metric that this process exports to Prometheus, with its labels and its unit.

All names begin with ``memory_worker_``. prometheus-client adds its own metrics about the process. No label has one
value per user: a value that comes from outside is counted as ``unknown``. Only one replica at a time exports the gauges
of the whole queue, so that sums over replicas are right: see `memory_worker.inspection.queue_stats`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.contract.read_jobs import READ_OPS

PREFIX: Final = "memory_worker"
UNKNOWN: Final = "unknown"

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOBS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000)
_BYTES = tuple(float(4**n) for n in range(5, 15))  # 1 KiB to 256 MiB

REASONS: Final = ("malformed", "invalid", "refused", "crashed", "superseded")
BREAKER_STATES: Final = ("closed", "open", "half-open")
ROLES: Final = ("ingest", "search", "admin")
READ_OUTCOMES: Final = ("ok", "invalid", "too_large", "timeout", "unavailable", "not_applied", "internal")

REGISTRY: Final = CollectorRegistry()


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"{PREFIX}_{name}", meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=REGISTRY)


INFO = _gauge("info", "Always 1. The labels describe the process.", "version", "role", "contract")
COMPONENT_UP = _gauge("component_up", "1 if a part is usable, as /readyz reports it.", "component")
EVENT_LOOP_LAG = _gauge("event_loop_lag_seconds", "Largest delay of the event loop within the last minute.")

JOBS = _counter("jobs_total", "Jobs that left the queue: applied, dead or purged.", "op", "kind", "outcome")
PUSH_TO_APPLIED = _histogram("push_to_applied_seconds", "Time from the push of a job until it was applied.")
BATCH_JOBS = _histogram("batch_jobs", "Jobs in a committed batch.", buckets=_JOBS)
BATCH_BYTES = _histogram("batch_bytes", "Bytes of the jobs in a committed batch.", buckets=_BYTES)
DEAD_LETTERS = _counter("dead_letters_total", "Jobs that became dead letters.", "reason", "op")

DRAINS = _counter(
    "drains_total",
    "Drains, by their ending: empty, slice, stopped, busy, behind, held, outage, lost or paused.",
    "ending",
)
LEASES_HELD = _gauge("leases_held", "Partitions that this process is draining.")
LEASES = _counter(
    "leases_total", "Leases: acquired, busy, lost, or taken_over if the previous drain never ended.", "outcome"
)
RETRIES = _counter("retries_total", "Drains to retry after an outage.", "reason")
BACKOFF = _counter("backoff_seconds_total", "Seconds by which drains were delayed after an outage.", "reason")
BREAKER = _gauge(
    "breaker_state", "1 for the current state of the circuit breaker to Qdrant, 0 for other states.", "state"
)

ARQ_WRITES = _counter(
    "arq_writes_total",
    "Writes of arq's own client: taken_over, refused, or expired before a worker saw them.",
    "outcome",
)

READS = _counter("reads_total", "Answered read jobs: ok, or the code of the error.", "op", "outcome")
READ_QUEUE = _histogram("read_queue_seconds", "Time from the push of a read job until a worker began it.", "op")
READ_ENGINE = _histogram("read_engine_seconds", "Time of the engine for a read job.", "op")
READ_DURATION = _histogram("read_duration_seconds", "Time from the push of a read job until its reply.", "op")

QDRANT_REQUESTS = _histogram("qdrant_request_duration_seconds", "Duration of requests to Qdrant.", "method", "code")
REDIS_REQUESTS = _histogram("redis_request_duration_seconds", "Duration of requests to Redis.", "command", "code")
ROLE_RESTARTS = _counter("role_restarts_total", "Restarts of a role's arq worker.", "role")

QUEUE_GAUGES: Final = {
    "backlog_jobs": ("Waiting write jobs.", "partition"),
    "backlog_oldest_age_seconds": ("Age of the oldest waiting job, or 0.", "partition"),
    "partition_held": ("1 if the oldest job needs another worker: a newer one, or one with its kind.", "partition"),
    "paused": ("1 if the queue is paused: workers apply no writes until `memory-worker resume`.", None),
    "dead_letters_waiting": ("Dead letters to replay or drop.", "partition"),
    "backlog_bytes": ("Bytes of the waiting write jobs.", None),
    "arq_writes_waiting": ("Due writes of arq's own client that no worker has taken over.", None),
    "reads_waiting": ("Read jobs that wait. Those of arq's own client count until they are answered.", None),
    "redis_memory_used_bytes": ("Memory that Redis uses.", None),
    "stats_timestamp_seconds": ("Time of these stats, by Redis's clock.", None),
    "backlog_limit_jobs": ("QUEUE_MAX_JOBS. Absent if there is no limit.", None),
    "backlog_limit_bytes": ("QUEUE_MAX_BYTES. Absent if there is no limit.", None),
    "redis_memory_limit_bytes": ("maxmemory of Redis. Absent if there is no limit.", None),
    "collection_points": ("Approximate number of points in Qdrant.", "collection"),
    "collection_indexed_vectors": ("Approximate number of vectors in the index.", "collection"),
    "collection_indexing_held": ("1 if bulk mode holds back the indexing.", "collection"),
}
"""The gauges of the whole queue: the meaning and the label of each."""


def queue_gauge(name: str, value: float | None = None) -> GaugeMetricFamily:
    """Return a gauge of the whole queue: with its value, or with a label and no values yet."""
    meaning, label = QUEUE_GAUGES[name]
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value=value, labels=[label] if label else None)


@functools.cache
def expose_process() -> None:
    """Add the metrics of prometheus-client about the process. Further calls have no effect."""
    disable_created_metrics()  # the start times of series are of no use here
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=REGISTRY)


def start_at_zero() -> None:
    """Create the counters that alerts use. For Prometheus, a counter that first appears as 1 has not increased."""
    for reason, op in product(REASONS, (*WRITE_OPS, UNKNOWN)):
        DEAD_LETTERS.labels(reason, op)
    for op, outcome in product(READ_OPS, READ_OUTCOMES):
        READS.labels(op, outcome)
    for role in ROLES:
        ROLE_RESTARTS.labels(role)
    for outcome in ("acquired", "busy", "taken_over", "lost"):
        LEASES.labels(outcome)
    for outcome in ("taken_over", "refused", "expired"):
        ARQ_WRITES.labels(outcome)
    breaker_is("closed")


def breaker_is(state: str) -> None:
    """Record the state of the circuit breaker."""
    for known in BREAKER_STATES:
        BREAKER.labels(known).set(known == state)


class Timed:
    """A request that is being timed. ``code`` is its outcome."""

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code = "OK"


@contextlib.contextmanager
def timed(requests: Histogram, name: str) -> Iterator[Timed]:
    """Observe the duration of the block under ``name`` and its code. An error without a code counts by its class."""
    request, started = Timed(), time.perf_counter()
    try:
        yield request
    except BaseException as error:
        if request.code == "OK":
            request.code = type(error).__name__
        raise
    finally:
        requests.labels(name, request.code).observe(time.perf_counter() - started)
