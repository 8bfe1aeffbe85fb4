"""The queue stats: the leader collects them, all replicas know them, and only the leader exports them to Prometheus.

Therefore more replicas add no load, and sums over replicas are right.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import msgspec
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.asyncio import Redis

from memory_worker.contract import CollectionInfo
from memory_worker.contract.errors import QueueError
from memory_worker.inspection.status import QueueStatus, Status, collect_collections, collect_queue
from memory_worker.queue.leader_election import LeaderElection
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.logs import log_event
from memory_worker.telemetry.metrics import queue_gauge
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

_COLLECTIONS_EVERY_S = 15.0
_MAX_COLLECTIONS = 50
"""Producers choose the namespaces, so the number of series must be limited."""
_OTHERS = "(others)"
_LIFE_IN_TURNS = 4
"""After this many failed turns the leadership and the stats expire."""


class StatsCollector:
    """Collects the queue stats every ``interval_s`` seconds, or reads those of the leader if it is another replica."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, *, interval_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._interval_s = interval_s
        self._life_s = _LIFE_IN_TURNS * interval_s
        self._election = LeaderElection(redis, keys, life_s=self._life_s)
        self._collections: list[CollectionInfo] = []
        self._is_leader = False
        self._store_error: str | None = None
        self._latest: tuple[Status, float, bool] | None = None

    async def run(self) -> None:
        """Collect stats until cancelled. Errors are logged, because they must not end the worker."""
        collections = asyncio.create_task(self._keep_collections_up_to_date(), name="collections")
        try:
            while True:
                try:
                    await self._turn()
                except QueueError as error:
                    log_event(logger, logging.DEBUG, "stats_failed", error=str(error))
                except Exception as error:  # noqa: BLE001
                    log_event(logger, logging.ERROR, "stats_failed", failure=error)
                await asyncio.sleep(self._interval_s)
        finally:
            collections.cancel()

    def latest(self) -> Status | None:
        """Return the latest stats, unless they are too old. May be called in any thread."""
        known = self._latest
        return known[0] if known and time.monotonic() - known[1] < self._life_s else None

    def latest_as_leader(self) -> Status | None:
        """Return the latest stats if this replica is the leader. May be called in any thread."""
        known = self._latest
        return self.latest() if known and known[2] else None

    async def _turn(self) -> None:
        asked = time.monotonic()
        is_leader = await self._election.elect()
        self._is_leader = is_leader
        stats = await self._collect() if is_leader else _decoded(await self._election.latest())
        self._latest = (stats, asked, is_leader) if stats else None
        if is_leader:
            await self._election.publish(msgspec.json.encode(stats))

    async def _collect(self) -> Status:
        fields = msgspec.structs.asdict(await collect_queue(self._redis, self._keys))
        return Status(**fields, collections=self._collections, store_error=self._store_error)

    async def _keep_collections_up_to_date(self) -> None:
        """Describe the collections separately from the turns, because a slow Qdrant must not delay the queue stats."""
        while True:
            if self._is_leader:
                await self._describe_collections()
            await asyncio.sleep(_COLLECTIONS_EVERY_S if self._is_leader else self._interval_s)

    async def _describe_collections(self) -> None:
        try:
            self._collections, self._store_error = await collect_collections(self._store)
        except Exception as error:  # noqa: BLE001  # as in `run`
            log_event(logger, logging.ERROR, "stats_failed", failure=error)


def _decoded(stats: bytes | None) -> Status | None:
    try:
        return msgspec.json.decode(stats, type=Status) if stats else None
    except (msgspec.DecodeError, RecursionError):  # not written by a worker of this version
        return None


class StatsExporter(Collector):
    """Exports the queue stats to Prometheus, in the leader."""

    def __init__(self, stats_collector: StatsCollector) -> None:
        self._stats_collector = stats_collector

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, because the metrics depend on the stats."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the stats as gauges, if this replica is the leader."""
        stats = self._stats_collector.latest_as_leader()
        if stats is None:
            return
        yield from _of_partitions(stats)
        yield from _of_totals(stats)
        yield from _of_collections(stats.collections)


def _of_partitions(stats: QueueStatus) -> Iterator[GaugeMetricFamily]:
    jobs = queue_gauge("backlog_jobs")
    age = queue_gauge("backlog_oldest_age_seconds")
    held = queue_gauge("partition_held")
    dead = queue_gauge("dead_letters_waiting")
    for state in stats.partitions:
        labels = [str(state.partition)]
        jobs.add_metric(labels, state.waiting)
        age.add_metric(labels, state.oldest_age_s or 0.0)
        held.add_metric(labels, state.held)
        dead.add_metric(labels, state.dead)
    yield from (jobs, age, held, dead)


def _of_totals(stats: QueueStatus) -> Iterator[GaugeMetricFamily]:
    yield queue_gauge("backlog_bytes", stats.waiting_bytes)
    yield queue_gauge("paused", stats.paused is not None)
    yield queue_gauge("arq_writes_waiting", stats.arq_writes_waiting)
    yield queue_gauge("reads_waiting", stats.reads_waiting)
    yield queue_gauge("redis_memory_used_bytes", stats.redis_memory_bytes)
    yield queue_gauge("stats_timestamp_seconds", stats.at)
    limits = {
        "backlog_limit_jobs": stats.max_jobs,
        "backlog_limit_bytes": stats.max_bytes,
        "redis_memory_limit_bytes": stats.redis_memory_limit_bytes,
    }
    for name, limit in limits.items():
        if limit:
            yield queue_gauge(name, limit)


def _of_collections(collections: list[CollectionInfo]) -> Iterator[GaugeMetricFamily]:
    points = queue_gauge("collection_points")
    indexed = queue_gauge("collection_indexed_vectors")
    held = queue_gauge("collection_indexing_held")
    largest = sorted(collections, key=lambda info: info.points, reverse=True)
    for info in largest[:_MAX_COLLECTIONS]:
        points.add_metric([info.name], info.points)
        indexed.add_metric([info.name], info.indexed_vectors)
        held.add_metric([info.name], bool(info.indexing_held))
    if rest := largest[_MAX_COLLECTIONS:]:
        points.add_metric([_OTHERS], sum(info.points for info in rest))
        indexed.add_metric([_OTHERS], sum(info.indexed_vectors for info in rest))
        held.add_metric([_OTHERS], any(info.indexing_held for info in rest))
    yield from (points, indexed, held)
