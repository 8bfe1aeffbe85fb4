"""Queue stats: one replica collects them and exports them to Prometheus, and the others can read them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from memory_worker.inspection import queue_stats
from memory_worker.inspection.queue_stats import StatsCollector, StatsExporter
from memory_worker.inspection.status import Status, collect_status
from memory_worker.queue.leader_election import LeaderElection
from memory_worker.queue.log import DeadEntry, JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.integration.jobs import LIMITS, PARTITIONS, bodies, memory
from tests.integration.leases import commit, held_lease, reading
from tests.integration.proxies import RedisProxy

INTERVAL_S = 0.05
LIFE_S = 4 * INTERVAL_S


class Replica:
    """A stats collector and its metrics."""

    def __init__(self, stats_collector: StatsCollector) -> None:
        self.stats_collector = stats_collector
        self._registry = CollectorRegistry()
        self._registry.register(StatsExporter(stats_collector))

    def exported(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the values of the metrics by name and labels."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for metric in self._registry.collect():
            name = metric.name.removeprefix("memory_worker_")
            found[name] = {tuple(sample.labels.values()): sample.value for sample in metric.samples}
        return found


Make = Callable[[], Replica]


@pytest.fixture
def replica(redis: Redis, keys: Keys, store: VectorStore) -> Make:
    return lambda: Replica(StatsCollector(redis, keys, store, interval_s=INTERVAL_S))


@asynccontextmanager
async def at_work(*replicas: Replica) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(replica.stats_collector.run()) for replica in replicas]
    try:
        yield tasks
    finally:
        pending = set(tasks)
        while pending:  # repeatedly, because redis-py may swallow a cancellation
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=1)


async def until(met: Callable[[], Any]) -> Any:
    """Wait until ``met`` returns something that is true; return it."""
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while not (found := met()):  # noqa: ASYNC110  # there is no signal for new stats
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
async def queued(redis: Redis, keys: Keys, store: VectorStore) -> None:
    """Fill the queue so that every figure of the stats has a value."""
    await store.prepare()
    meta = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=1000, max_bytes=0)
    await publish_meta(redis, keys, meta)
    await push(redis, keys, PARTITIONS, bodies(memory(4, 1), memory(4, 2), memory(4, 3)))
    await push(redis, keys, PARTITIONS, bodies(memory(2, 1), partition=1))
    await push(redis, keys, PARTITIONS, [(2, b"of a newer contract")], version=9)
    lease = await held_lease(redis, keys, ttl_s=60)
    log = JobLog(redis, keys, reading(keys))
    [entry] = (await log.read(lease, max_jobs=1, max_bytes=10_000)).entries
    await commit(log, lease, [entry], [DeadEntry(entry=entry, reason="invalid", detail="a test")])
    await redis.zadd(keys.search_queue, {f"{keys.prefix}:search:x": 1, f"{keys.prefix}:search:y": 1})
    await redis.rpush(keys.search_calls, "a call")  # type: ignore[misc]


@pytest.mark.usefixtures("queued")
class TestExported:
    async def test_all_figures_of_the_queue_are_exported(
        self, replica: Make, redis: Redis, keys: Keys, store: VectorStore, shape: Any
    ) -> None:
        own = replica()
        async with at_work(own):
            await until(lambda: (stats := own.stats_collector.latest_as_leader()) and stats.collections)
            exported = own.exported()
        by_partition = {("0",): 2.0, ("1",): 1.0, ("2",): 1.0, ("3",): 0.0}
        assert exported["backlog_jobs"] == by_partition
        ages = exported["backlog_oldest_age_seconds"]
        assert {partition for partition, age in ages.items() if 0 < age < 120} == {("0",), ("1",), ("2",)}
        assert ages["3",] == 0
        assert exported["partition_held"] == {("0",): 0, ("1",): 0, ("2",): 1, ("3",): 0}
        assert exported["dead_letters_waiting"] == {("0",): 1, ("1",): 0, ("2",): 0, ("3",): 0}
        waiting_bytes = sum(len(body) for _, body in bodies(memory(4, 2), memory(4, 3), memory(2, 1)))
        assert exported["backlog_bytes"] == {(): waiting_bytes + len(b"of a newer contract")}
        assert exported["reads_waiting"] == {(): 3}
        assert exported["backlog_limit_jobs"] == {(): 1000}
        assert "backlog_limit_bytes" not in exported  # there is none
        assert exported["redis_memory_used_bytes"][()] > 100_000
        assert exported["stats_timestamp_seconds"][()] == pytest.approx(time.time(), abs=60)
        assert exported["collection_points"] == {(shape.base("memory"),): 0, (shape.base("document"),): 0}
        assert exported["collection_indexed_vectors"] == {(shape.base("memory"),): 0, (shape.base("document"),): 0}

        # `memory-worker status` shows the same figures.
        status, stats = await collect_status(redis, keys, store), own.stats_collector.latest()
        assert stats is not None
        assert status.waiting == stats.waiting == sum(by_partition.values())
        assert (status.waiting_bytes, status.reads_waiting) == (stats.waiting_bytes, stats.reads_waiting)
        assert status.collections == stats.collections
        assert (status.draining, status.dead) == (stats.draining, stats.dead) == (1, 1)

    async def test_one_of_two_replicas_exports_the_stats_and_both_can_read_them(self, replica: Make) -> None:
        leader, follower = replica(), replica()
        for each in (leader, follower):
            await each.stats_collector._turn()
        assert (
            leader.stats_collector.latest()
            == follower.stats_collector.latest()
            == leader.stats_collector.latest_as_leader()
        )
        assert leader.exported()
        assert follower.stats_collector.latest_as_leader() is None
        assert follower.exported() == {}
        async with at_work(leader, follower):
            before = leader.stats_collector.latest()
            await until(lambda: before not in (leader.stats_collector.latest(), follower.stats_collector.latest()))
            assert leader.exported()
            assert follower.exported() == {}

    async def test_another_replica_takes_over_when_the_first_one_ends(
        self, replica: Make, redis: Redis, keys: Keys
    ) -> None:
        one, other = replica(), replica()
        async with at_work(one) as [first]:
            await until(one.stats_collector.latest_as_leader)
            async with at_work(other):
                await until(other.stats_collector.latest)
                assert other.stats_collector.latest_as_leader() is None
                first.cancel()
                await asyncio.wait([first])
                assert await redis.pttl(keys.leader) <= 1000 * LIFE_S
                await until(other.stats_collector.latest_as_leader)
                assert other.exported()
                await until(lambda: not one.exported())
                assert one.stats_collector.latest() is None


class TestLeaderElection:
    async def test_the_leader_stays_leader_as_long_as_it_renews(self, redis: Redis, keys: Keys) -> None:
        one, other = (LeaderElection(redis, keys, life_s=60) for _ in range(2))
        assert [await election.elect() for election in (one, other, one, other)] == [True, False, True, False]
        await redis.pexpire(keys.leader, 1000)
        assert not await other.elect()
        assert await redis.pttl(keys.leader) <= 1000  # the failed election has not renewed it
        assert await one.elect()
        assert await redis.pttl(keys.leader) > 50_000
        await redis.delete(keys.leader)  # as if it had expired
        assert await other.elect()
        assert not await one.elect()

    async def test_published_stats_expire(self, redis: Redis, keys: Keys) -> None:
        election = LeaderElection(redis, keys, life_s=60)
        assert await election.latest() is None
        await election.publish(b"{}")
        assert await election.latest() == b"{}"
        assert 0 < await redis.pttl(keys.stats) <= 60_000


class TestFollower:
    """Another replica is the leader, possibly of another version."""

    @pytest.fixture
    async def follower(self, replica: Make, redis: Redis, keys: Keys) -> Replica:
        await redis.set(keys.leader, "another replica")
        return replica()

    @pytest.mark.parametrize(
        "stored",
        [
            b"",
            b"null",
            b"\xff\xfe",
            b"{}",
            b"[]",
            b'{"at": "now"}',
            b'{"at": 1, "partitions": [{"partition": 0}], "a field of another version": {}}',
            b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        ],
        ids=lambda stored: repr(stored[:30]),
    )
    async def test_stats_that_cannot_be_decoded_are_ignored(
        self, follower: Replica, redis: Redis, keys: Keys, stored: bytes
    ) -> None:
        await redis.set(keys.stats, stored)
        await follower.stats_collector._turn()
        assert follower.stats_collector.latest() is None
        assert follower.exported() == {}

    async def test_an_unknown_field_of_a_newer_version_is_ignored(
        self, follower: Replica, redis: Redis, keys: Keys, store: VectorStore
    ) -> None:
        status = await collect_status(redis, keys, store)
        newer = {**msgspec.to_builtins(status), "something_new": [1, 2]}
        await redis.set(keys.stats, msgspec.json.encode(newer))
        await follower.stats_collector._turn()
        assert follower.stats_collector.latest() == status
        assert follower.exported() == {}

    async def test_a_follower_without_a_leader_has_no_stats(self, follower: Replica) -> None:
        await follower.stats_collector._turn()
        assert follower.stats_collector.latest() is None


class TestAge:
    async def test_old_stats_are_neither_exported_nor_returned(
        self, replica: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = replica()
        await own.stats_collector._turn()
        assert own.exported()
        later = time.monotonic() + LIFE_S
        monkeypatch.setattr(queue_stats, "time", SimpleNamespace(monotonic=lambda: later))
        assert own.exported() == {}
        assert own.stats_collector.latest() is None
        assert own.stats_collector.latest_as_leader() is None

    async def test_a_collector_goes_on_after_redis_hung(
        self, redis_proxy: RedisProxy, keys: Keys, store: VectorStore
    ) -> None:
        async with connected(redis_proxy.url, timeout_s=0.1) as redis:
            own = Replica(StatsCollector(redis, keys, store, interval_s=INTERVAL_S))
            async with at_work(own) as [task]:
                await until(own.stats_collector.latest_as_leader)
                redis_proxy.hang()
                await until(lambda: own.stats_collector.latest() is None)
                redis_proxy.go_on()
                await until(own.stats_collector.latest_as_leader)
                assert not task.done()

    async def test_stats_of_the_queue_are_collected_while_qdrant_is_down(
        self, redis: Redis, keys: Keys, shape: Any
    ) -> None:
        async with VectorStore("http://127.0.0.1:1", shape, timeout_s=1) as nowhere:
            own = Replica(StatsCollector(redis, keys, nowhere, interval_s=INTERVAL_S))
            async with at_work(own):
                stats = await until(lambda: (found := own.stats_collector.latest()) and found.store_error and found)
            assert isinstance(stats, Status)
            assert stats.store_error is not None
            assert "UNAVAILABLE" in stats.store_error
            exported = own.exported()
            assert exported["collection_points"] == {}
            assert len(exported["backlog_jobs"]) == 32
