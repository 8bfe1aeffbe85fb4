"""The survey of the whole queue: made by one replica at a time, known to all, told to Prometheus by the one.

So that scraping many replicas adds no load, and sums over them stay right.
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
_MOST_COLLECTIONS = 50
"""Producers choose namespaces: what Prometheus must keep may not grow with them."""
_OTHERS = "(others)"
_TURNS_OF_LIFE = 4
"""Turns that may fail before the office, and the survey, pass away."""


class StatsCollector:
    """Surveys the queue every ``interval_s`` seconds, if no other replica does; else reads what the other saw."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, *, interval_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._interval_s = interval_s
        self._life_s = _TURNS_OF_LIFE * interval_s
        self._election = LeaderElection(redis, keys, life_s=self._life_s)
        self._collections: list[CollectionInfo] = []
        self._is_leader = False
        self._store_error: str | None = None
        self._latest: tuple[Status, float, bool] | None = None

    async def run(self) -> None:
        """Survey until cancelled; whatever goes wrong with it is no reason to end a worker."""
        looking = asyncio.create_task(self._keep_looking_at_collections(), name="collections")
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
            looking.cancel()

    def latest(self) -> Status | None:
        """Return the last survey, unless it is too old; in any thread."""
        known = self._latest
        return known[0] if known and time.monotonic() - known[1] < self._life_s else None

    def own(self) -> Status | None:
        """Return the last survey if it is this replica that tells Prometheus; in any thread."""
        known = self._latest
        return self.latest() if known and known[2] else None

    async def _turn(self) -> None:
        asked = time.monotonic()
        is_leader = await self._election.elect()
        self._is_leader = is_leader
        stats = await self._stats() if is_leader else _decoded(await self._election.latest())
        self._latest = (stats, asked, is_leader) if stats else None
        if is_leader:
            await self._election.publish(msgspec.json.encode(stats))

    async def _stats(self) -> Status:
        fields = msgspec.structs.asdict(await collect_queue(self._redis, self._keys))
        return Status(**fields, collections=self._collections, store_error=self._store_error)

    async def _keep_looking_at_collections(self) -> None:
        """Look now and then, beside the turns: a slow Qdrant must not hide what is known of the queue."""
        while True:
            if self._is_leader:
                await self._look_at_collections()
            await asyncio.sleep(_COLLECTIONS_EVERY_S if self._is_leader else self._interval_s)

    async def _look_at_collections(self) -> None:
        try:
            self._collections, self._store_error = await collect_collections(self._store)
        except Exception as error:  # noqa: BLE001  # as in `run`
            log_event(logger, logging.ERROR, "stats_failed", failure=error)


def _decoded(stats: bytes | None) -> Status | None:
    try:
        return msgspec.json.decode(stats, type=Status) if stats else None
    except (msgspec.DecodeError, RecursionError):  # of a worker of another version, or of none
        return None


class StatsExporter(Collector):
    """Tells Prometheus the survey, in the replica that makes it."""

    def __init__(self, stats_collector: StatsCollector) -> None:
        self._stats_collector = stats_collector

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: which metrics there are is known when there is a survey."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the survey as gauges, if this replica made it."""
        stats = self._stats_collector.own()
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
    for info in largest[:_MOST_COLLECTIONS]:
        points.add_metric([info.name], info.points)
        indexed.add_metric([info.name], info.indexed_vectors)
        held.add_metric([info.name], bool(info.indexing_held))
    if rest := largest[_MOST_COLLECTIONS:]:
        points.add_metric([_OTHERS], sum(info.points for info in rest))
        indexed.add_metric([_OTHERS], sum(info.indexed_vectors for info in rest))
        held.add_metric([_OTHERS], any(info.indexing_held for info in rest))
    yield from (points, indexed, held)
