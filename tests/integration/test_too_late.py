"""A push that its caller has given up is not stored after what the caller pushed later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Upsert, decode_write, partition_of
from memory_worker.contract.errors import PushedInPart, QueueUnavailable, TooLate
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire import clock
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, connected
from tests.integration.jobs import LIMITS, PARTITIONS, axis, memory
from tests.integration.proxies import RedisProxy
from tests.servers import RedisServer

TIMEOUT_S = 1.0
HOUR_S = 3600.0
USER = 4  # of partition 0


async def written(redis: Redis, keys: Keys) -> list[str]:
    """Return the points that the entries of the user's partition write, in order."""
    entries = await redis.xrange(keys.stream(partition_of(USER, PARTITIONS)))
    jobs = [decode_write(fields[b"j"]) for _, fields in entries]
    return [job.point_id for job in jobs if isinstance(job, Upsert)]


async def write(queue: MemoryQueue, number: int) -> None:
    await queue.upsert(user_id=USER, point_id=f"mem_{USER}_{number}", vector=axis(0))


async def be_late(queue: MemoryQueue) -> None:
    """Wait as long as the client's estimate of Redis's clock is wrong: both are the clock of this machine."""
    await asyncio.sleep(abs(queue._producer.clock.offset_ms) / 1000 + 0.01)


class TestPush:
    async def test_a_push_after_its_latest_time_stores_nothing(
        self, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        now_ms = time.time() * 1000
        with pytest.raises(TooLate, match="too late"):
            await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b")], deadline_ms=now_ms - 60_000)
        assert await everything() == {}  # not even the number of partitions

        await push(redis, keys, PARTITIONS, [(0, b"c")], deadline_ms=now_ms + 50_000)
        before = await everything()
        with pytest.raises(TooLate):
            await push(redis, keys, PARTITIONS, [(0, b"d"), (1, b"e")], deadline_ms=now_ms - 60_000)
        assert await everything() == before

    async def test_a_latest_time_too_far_in_the_future_is_refused(
        self, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        """It is that of a clock that was set back: a push that was given up could be stored an hour later."""
        now_ms = time.time() * 1000
        with pytest.raises(TooLate):
            await push(redis, keys, PARTITIONS, [(0, b"a")], deadline_ms=now_ms + 3_600_000, life_ms=6_000)
        assert await everything() == {}

    async def test_a_push_in_time_is_stored(self, redis: Redis, keys: Keys) -> None:
        for deadline_ms in (0, time.time() * 1000 + 50_000):
            await push(redis, keys, PARTITIONS, [(0, b"a")], deadline_ms=deadline_ms)
        assert await redis.xlen(keys.stream(0)) == 2


class TestClient:
    @pytest.fixture
    async def queue(self, redis: Redis, keys: Keys, redis_url: str) -> AsyncIterator[MemoryQueue]:
        """A client that has pushed its first memory and knows Redis's clock."""
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        async with MemoryQueue.connect(redis_url, prefix=keys.prefix) as opened:
            await write(opened, 1)
            yield opened

    @pytest.mark.parametrize("hours", [-1, 1])
    async def test_a_client_whose_clock_is_set_still_pushes(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, hours: int
    ) -> None:
        """Set back, it would refuse pushes that are in time; set forward, it would give them an hour more."""
        before = queue._producer.clock.earliest_ms()
        set_to = SimpleNamespace(time=lambda: time.time() + hours * HOUR_S, monotonic=time.monotonic)
        monkeypatch.setattr(clock, "time", set_to)
        assert 0 <= queue._producer.clock.earliest_ms() - before < 60_000
        await write(queue, 2)
        assert await written(redis, keys) == [f"mem_{USER}_{number}" for number in (1, 2)]

    async def test_a_machine_that_slept_asks_for_the_time_again(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its monotonic clock stood still while it slept."""
        slept = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() - HOUR_S)
        monkeypatch.setattr(clock, "time", slept)
        jobs = [memory(USER, number) for number in range(2, 600)]
        receipts = await queue.push_many(jobs)
        assert len(receipts) == len(jobs)
        assert await written(redis, keys) == [f"mem_{USER}_{number}" for number in range(1, 600)]

    async def test_each_change_of_a_clock_asks_for_the_time_once(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The test moves the client's clock. Moving the clock of Redis would look the same to the client."""
        refreshes = 0
        refresh = RedisClock.refresh

        async def count(self: RedisClock, redis: Redis) -> None:
            nonlocal refreshes
            refreshes += 1
            await refresh(self, redis)

        monkeypatch.setattr(RedisClock, "refresh", count)
        steps = [1, -1, 0.01, 24, 0, -24]
        for number, hours in enumerate(steps, start=2):
            moved = SimpleNamespace(time=time.time, monotonic=lambda hours=hours: time.monotonic() + hours * HOUR_S)
            monkeypatch.setattr(clock, "time", moved)
            for _ in range(2):
                await write(queue, number)
        assert refreshes == len(steps)
        assert await written(redis, keys) == [f"mem_{USER}_{n}" for n in (1, *sorted([*range(2, 8)] * 2))]

    async def test_many_pushes_ask_for_the_time_once(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, redis_proxy: RedisProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + HOUR_S)
        async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix) as other:
            await write(other, 2)
            redis_proxy.words()
            monkeypatch.setattr(clock, "time", moved)
            await asyncio.gather(*(write(other, number) for number in range(3, 200)))
            assert redis_proxy.words().count("TIME") == 1

    async def test_a_push_is_refused_if_the_time_stays_unknown(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refreshes = 0

        async def in_vain(self: RedisClock, redis: Redis) -> None:
            nonlocal refreshes
            refreshes += 1

        monkeypatch.setattr(RedisClock, "refresh", in_vain)
        slept = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() - HOUR_S)
        monkeypatch.setattr(clock, "time", slept)
        with pytest.raises(QueueUnavailable) as refused:
            await write(queue, 2)
        assert isinstance(refused.value, TooLate)
        assert refreshes == 1
        assert await written(redis, keys) == [f"mem_{USER}_1"]

    async def test_a_slow_answer_about_the_time_gives_no_push_more_time(
        self, redis_proxy: RedisProxy, redis: Redis, keys: Keys
    ) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix, timeout_s=TIMEOUT_S) as queue:
            await write(queue, 1)
            redis_proxy.delay_s = 0.7
            await queue._producer.clock.refresh(queue._producer.open().redis)
            redis_proxy.delay_s = 0.0
            redis_proxy.hang()
            with pytest.raises(QueueUnavailable):
                await write(queue, 2)
            delivered = redis_proxy.seen(b"EVALSHA")
            redis_proxy.go_on()
            await delivered.wait()
            await write(queue, 3)
        assert await written(redis, keys) == [f"mem_{USER}_1", f"mem_{USER}_3"]

    async def test_the_error_of_many_pushes_names_those_that_were_stored(
        self, redis_proxy: RedisProxy, redis: Redis, keys: Keys
    ) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix, timeout_s=TIMEOUT_S) as queue:
            await write(queue, 0)
            first = redis_proxy.seen(b"EVALSHA")
            pushing = asyncio.create_task(queue.push_many([memory(USER, number) for number in range(1, 1000)]))
            await first.wait()
            redis_proxy.hang()
            with pytest.raises(PushedInPart) as in_part:
                await pushing
            assert isinstance(in_part.value.__cause__, QueueUnavailable)
            await be_late(queue)
            delivered = redis_proxy.seen(b"EVALSHA")
            redis_proxy.go_on()
            await delivered.wait()
            await write(queue, 1000)
        stored = len(in_part.value.stored)
        assert 0 < stored < 999
        assert await written(redis, keys) == [f"mem_{USER}_{number}" for number in (*range(stored + 1), 1000)]


class TestFrozenRedis:
    async def test_a_push_that_was_given_up_is_refused_and_a_later_one_is_stored(
        self, own_redis: RedisServer, keys: Keys
    ) -> None:
        async with (
            connected(own_redis.url) as redis,
            MemoryQueue.connect(own_redis.url, prefix=keys.prefix, timeout_s=TIMEOUT_S) as queue,
        ):
            await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
            await write(queue, 1)
            own_redis.freeze()
            with pytest.raises(QueueUnavailable) as given_up:
                await write(queue, 2)
            assert not isinstance(given_up.value, TooLate)  # which is not known yet
            await be_late(queue)
            own_redis.thaw()
            await write(queue, 3)
            # Redis has seen the push, and has refused it.
            assert (await redis.info("errorstats"))["errorstat_TOOLATE"] == {"count": 1}
            assert await written(redis, keys) == [f"mem_{USER}_1", f"mem_{USER}_3"]
            assert await redis.hget(keys.backlog, "jobs") == b"2"
