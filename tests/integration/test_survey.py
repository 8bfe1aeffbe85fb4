"""The survey: one replica looks at the whole queue and tells Prometheus, the others know what it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from arq.connections import ArqRedis
from prometheus_client import CollectorRegistry

from memory_worker import survey as survey_module
from memory_worker.queue.keys import Keys
from memory_worker.queue.log import DeadEntry, JobLog
from memory_worker.queue.meta import QueueMeta, publish_meta
from memory_worker.queue.push import push
from memory_worker.queue.survey import SurveyOffice
from memory_worker.status import Status, collect_status
from memory_worker.store.store import VectorStore
from memory_worker.survey import SurveyCollector, Surveyor
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.integration.jobs import LIMITS, PARTITIONS, bodies, memory
from tests.integration.leases import acquire_lease, commit, reading
from tests.integration.proxies import RedisProxy

INTERVAL_S = 0.05
LIFE_S = 4 * INTERVAL_S


class Replica:
    """A surveyor, and what it tells Prometheus."""

    def __init__(self, surveyor: Surveyor) -> None:
        self.surveyor = surveyor
        self._registry = CollectorRegistry()
        self._registry.register(SurveyCollector(surveyor))

    def told(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the values by name and labels."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for metric in self._registry.collect():
            name = metric.name.removeprefix("memory_worker_")
            found[name] = {tuple(sample.labels.values()): sample.value for sample in metric.samples}
        return found


Make = Callable[[], Replica]


@pytest.fixture
def replica(redis: ArqRedis, keys: Keys, store: VectorStore) -> Make:
    return lambda: Replica(Surveyor(redis, keys, store, interval_s=INTERVAL_S))


@asynccontextmanager
async def at_work(*replicas: Replica) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(replica.surveyor.run()) for replica in replicas]
    try:
        yield tasks
    finally:
        pending = set(tasks)
        while pending:  # again and again: redis-py may swallow a cancellation that comes while it looks for stale data
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=1)


async def until(met: Callable[[], Any]) -> Any:
    """Return what ``met`` returns once it is true."""
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while not (found := met()):  # noqa: ASYNC110  # a survey tells nobody that it was made
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
async def queued(redis: ArqRedis, keys: Keys, store: VectorStore) -> None:
    """Something of everything that a survey tells."""
    await store.prepare()
    meta = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=1000, max_bytes=0)
    await publish_meta(redis, keys, meta)
    await push(redis, keys, PARTITIONS, bodies(memory(4, 1), memory(4, 2), memory(4, 3)))
    await push(redis, keys, PARTITIONS, bodies(memory(2, 1), partition=1))
    await push(redis, keys, PARTITIONS, [(2, b"of a newer contract")], version=9)
    lease = await acquire_lease(redis, keys, 0, ttl_s=60, partitions=PARTITIONS)
    assert lease is not None
    log = JobLog(redis, keys, reading(keys))
    [entry] = await log.read(lease, max_jobs=1, max_bytes=10_000)
    await commit(log, lease, [entry], [DeadEntry(entry=entry, reason="invalid", detail="a test")])
    await redis.zadd(keys.search_queue, {f"{keys.prefix}:search:x": 1, f"{keys.prefix}:search:y": 1})


@pytest.mark.usefixtures("queued")
class TestTold:
    async def test_what_there_is(
        self, replica: Make, redis: ArqRedis, keys: Keys, store: VectorStore, shape: Any
    ) -> None:
        own = replica()
        async with at_work(own):
            await until(lambda: (survey := own.surveyor.own()) and survey.collections)
            told = own.told()
        by_partition = {("0",): 2.0, ("1",): 1.0, ("2",): 1.0, ("3",): 0.0}
        assert told["backlog_jobs"] == by_partition
        ages = told["backlog_oldest_age_seconds"]
        assert {partition for partition, age in ages.items() if 0 < age < 120} == {("0",), ("1",), ("2",)}
        assert ages["3",] == 0
        assert told["partition_held"] == {("0",): 0, ("1",): 0, ("2",): 1, ("3",): 0}
        assert told["dead_letters_waiting"] == {("0",): 1, ("1",): 0, ("2",): 0, ("3",): 0}
        waiting_bytes = sum(len(body) for _, body in bodies(memory(4, 2), memory(4, 3), memory(2, 1)))
        assert told["backlog_bytes"] == {(): waiting_bytes + len(b"of a newer contract")}
        assert told["reads_waiting"] == {(): 2}
        assert told["backlog_limit_jobs"] == {(): 1000}
        assert "backlog_limit_bytes" not in told  # there is none
        assert told["redis_memory_used_bytes"][()] > 100_000
        assert told["survey_timestamp_seconds"][()] == pytest.approx(time.time(), abs=60)
        assert told["collection_points"] == {(shape.memories,): 0, (shape.documents,): 0}
        assert told["collection_indexed_vectors"] == {(shape.memories,): 0, (shape.documents,): 0}

        # What `memory-worker status` says is the same.
        status, survey = await collect_status(redis, keys, store), own.surveyor.latest()
        assert survey is not None
        assert status.waiting == survey.waiting == sum(by_partition.values())
        assert (status.waiting_bytes, status.reads_waiting) == (survey.waiting_bytes, survey.reads_waiting)
        assert status.collections == survey.collections
        assert (status.draining, status.dead) == (survey.draining, survey.dead) == (1, 1)

    async def test_of_two_replicas_by_one_and_known_to_both(self, replica: Make) -> None:
        leader, follower = replica(), replica()
        for each in (leader, follower):
            await each.surveyor._turn()
        assert leader.surveyor.latest() == follower.surveyor.latest() == leader.surveyor.own()
        assert leader.told()
        assert follower.surveyor.own() is None
        assert follower.told() == {}
        async with at_work(leader, follower):
            before = leader.surveyor.latest()
            await until(lambda: before not in (leader.surveyor.latest(), follower.surveyor.latest()))
            assert leader.told()
            assert follower.told() == {}

    async def test_by_another_once_the_first_is_gone(self, replica: Make, redis: ArqRedis, keys: Keys) -> None:
        one, other = replica(), replica()
        async with at_work(one) as [first]:
            await until(one.surveyor.own)
            async with at_work(other):
                await until(other.surveyor.latest)
                assert other.surveyor.own() is None
                first.cancel()
                await asyncio.wait([first])
                assert await redis.pttl(keys.surveyor) <= 1000 * LIFE_S  # so long, at most, nobody tells
                await until(other.surveyor.own)
                assert other.told()
                await until(lambda: not one.told())
                assert one.surveyor.latest() is None


class TestOffice:
    async def test_one_holder_who_may_stay_as_long_as_it_comes_again(self, redis: ArqRedis, keys: Keys) -> None:
        one, other = (SurveyOffice(redis, keys, life_s=60) for _ in range(2))
        assert [await office.take() for office in (one, other, one, other)] == [True, False, True, False]
        await redis.pexpire(keys.surveyor, 1000)
        assert not await other.take()
        assert await redis.pttl(keys.surveyor) <= 1000  # who asks in vain prolongs nothing
        assert await one.take()
        assert await redis.pttl(keys.surveyor) > 50_000
        await redis.delete(keys.surveyor)  # as if it had expired
        assert await other.take()
        assert not await one.take()

    async def test_a_survey_is_forgotten_when_no_other_follows(self, redis: ArqRedis, keys: Keys) -> None:
        office = SurveyOffice(redis, keys, life_s=60)
        assert await office.last() is None
        await office.publish(b"{}")
        assert await office.last() == b"{}"
        assert 0 < await redis.pttl(keys.survey) <= 60_000


class TestFollower:
    """Another replica has the office; what it left is read with care."""

    @pytest.fixture
    async def follower(self, replica: Make, redis: ArqRedis, keys: Keys) -> Replica:
        await redis.set(keys.surveyor, "another replica")
        return replica()

    @pytest.mark.parametrize(
        "left",
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
        ids=lambda left: repr(left[:30]),
    )
    async def test_what_cannot_be_read_is_no_survey(
        self, follower: Replica, redis: ArqRedis, keys: Keys, left: bytes
    ) -> None:
        await redis.set(keys.survey, left)
        await follower.surveyor._turn()
        assert follower.surveyor.latest() is None
        assert follower.told() == {}

    async def test_a_field_that_a_newer_version_adds_does_no_harm(
        self, follower: Replica, redis: ArqRedis, keys: Keys, store: VectorStore
    ) -> None:
        status = await collect_status(redis, keys, store)
        newer = {**msgspec.to_builtins(status), "something_new": [1, 2]}
        await redis.set(keys.survey, msgspec.json.encode(newer))
        await follower.surveyor._turn()
        assert follower.surveyor.latest() == status
        assert follower.told() == {}

    async def test_none_is_left_yet(self, follower: Replica) -> None:
        await follower.surveyor._turn()
        assert follower.surveyor.latest() is None


class TestAge:
    async def test_what_is_too_old_is_neither_told_nor_known(
        self, replica: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = replica()
        await own.surveyor._turn()
        assert own.told()
        later = time.monotonic() + LIFE_S
        monkeypatch.setattr(survey_module, "time", SimpleNamespace(monotonic=lambda: later))
        assert own.told() == {}
        assert own.surveyor.latest() is None
        assert own.surveyor.own() is None

    async def test_a_redis_that_hangs_ends_no_surveyor_and_ages_its_survey(
        self, redis_proxy: RedisProxy, keys: Keys, store: VectorStore
    ) -> None:
        async with connected(redis_proxy.url, timeout_s=0.1) as redis:
            own = Replica(Surveyor(redis, keys, store, interval_s=INTERVAL_S))
            async with at_work(own) as [task]:
                await until(own.surveyor.own)
                redis_proxy.hang()
                await until(lambda: own.surveyor.latest() is None)
                redis_proxy.go_on()
                await until(own.surveyor.own)
                assert not task.done()

    async def test_a_store_that_is_down_is_told_of_and_the_queue_is_surveyed_all_the_same(
        self, redis: ArqRedis, keys: Keys, shape: Any
    ) -> None:
        async with VectorStore("http://127.0.0.1:1", shape, timeout_s=1) as nowhere:
            own = Replica(Surveyor(redis, keys, nowhere, interval_s=INTERVAL_S))
            async with at_work(own):
                survey = await until(lambda: (found := own.surveyor.latest()) and found.store_error and found)
            assert isinstance(survey, Status)
            assert survey.store_error is not None
            assert "UNAVAILABLE" in survey.store_error
            told = own.told()
            assert told["collection_points"] == {}
            assert len(told["backlog_jobs"]) == 32
