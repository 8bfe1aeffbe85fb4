"""A Redis that has lost data: limits are published again, and nobody is told that a lost job was applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.contract.errors import (
    DeadLettered,
    MemoryWorkerError,
    NotApplied,
    PartitionMismatch,
    QueueUnavailable,
    UnknownReceipt,
)
from memory_worker.queue.log import JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.runtime.wiring import queue_meta
from memory_worker.settings import Settings
from memory_worker.wire.applied import wait_applied
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import push
from tests.chaos.servers import RedisServer
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.leases import acquire_lease, commit, give_back, reading

MakeSettings = Callable[..., Settings]
OTHER_KEYS = Keys("mw")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, which may lose everything."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


async def apply_all(redis: Redis, keys: Keys, partition: int = 0) -> None:
    """Remove all entries of a partition, as a drain would."""
    lease = await acquire_lease(redis, keys, partition, ttl_s=8, partitions=PARTITIONS)
    assert lease is not None
    log = JobLog(redis, keys, reading(keys))
    await commit(log, lease, await log.read(lease, max_jobs=1000, max_bytes=2**30))
    await give_back(redis, keys, lease)


async def pushed(redis: Redis, keys: Keys, partition: int = 0) -> Receipt:
    return (await push(redis, keys, PARTITIONS, [(partition, b"x")]))[0]


class TestReceipts:
    async def test_of_a_stream_that_was_evicted(self, redis: Redis, keys: Keys) -> None:
        lost, other = await pushed(redis, keys, 0), await pushed(redis, keys, 1)
        await redis.delete(keys.stream(0))
        later = await pushed(redis, keys, 0)
        assert later.entry_id.partition("-")[0] > lost.entry_id.partition("-")[0]
        await apply_all(redis, keys, 0)
        await apply_all(redis, keys, 1)

        with pytest.raises(UnknownReceipt, match=f"{lost}"):
            await wait_applied(redis, keys, lost, timeout_s=1)
        await wait_applied(redis, keys, later, timeout_s=1)
        await wait_applied(redis, keys, other, timeout_s=1)

    async def test_of_a_queue_whose_notes_were_evicted_too(self, redis: Redis, keys: Keys) -> None:
        lost = await pushed(redis, keys)
        await redis.delete(keys.stream(0))
        await pushed(redis, keys)
        await apply_all(redis, keys)
        await redis.delete(keys.since)
        with pytest.raises(UnknownReceipt):
            await wait_applied(redis, keys, lost, timeout_s=1)
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS), only_missing=True)  # as a worker does
        with pytest.raises(UnknownReceipt):
            await wait_applied(redis, keys, lost, timeout_s=1)
        later = await pushed(redis, keys)
        await apply_all(redis, keys)
        await wait_applied(redis, keys, later, timeout_s=1)

    async def test_who_waits_while_everything_is_lost_is_told_in_the_end(self, redis: Redis, keys: Keys) -> None:
        lost = await pushed(redis, keys)
        waiting = asyncio.create_task(wait_applied(redis, keys, lost, timeout_s=SIGNAL_TIMEOUT_S))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not [client for client in await redis.client_list() if client["cmd"] == "xread"]:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await redis.delete(keys.stream(0), keys.meta, keys.since, keys.backlog)
        await pushed(redis, keys)
        await apply_all(redis, keys)
        with pytest.raises(UnknownReceipt):
            await waiting

    async def test_a_dead_letter_that_is_still_there_is_no_secret(self, redis: Redis, keys: Keys) -> None:
        receipt = await pushed(redis, keys)
        await redis.xadd(keys.dead(0), {"reason": "refused", "detail": "why"}, id=receipt.entry_id)
        await redis.delete(keys.since)
        with pytest.raises(DeadLettered, match="why"):
            await wait_applied(redis, keys, receipt, timeout_s=1)

    async def test_a_stream_that_ran_empty_is_not_lost(self, redis: Redis, keys: Keys) -> None:
        first = await pushed(redis, keys)
        await apply_all(redis, keys)
        second = await pushed(redis, keys)
        await apply_all(redis, keys)
        for receipt in (first, second):
            await wait_applied(redis, keys, receipt, timeout_s=1)

    async def test_a_queue_that_another_version_filled(self, redis: Redis, keys: Keys) -> None:
        """Its streams have no notes of their own; what was pushed since a worker of this version came is known."""
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
        entry_id = await redis.xadd(keys.stream(0), {"v": "1", "j": "x"})
        await apply_all(redis, keys)
        await wait_applied(redis, keys, Receipt(0, entry_id.decode()), timeout_s=1)


class TestLimits:
    async def test_they_are_published_again(
        self, settings: MakeSettings, own: RedisServer, events: Events, tmp_path: Path
    ) -> None:
        chosen = settings(
            redis_url=SecretStr(own.url), queue_prefix="mw", rescue_interval_s=0.05, queue_max_jobs=7, queue_max_bytes=0
        )
        async with running(chosen, role="ingest"), connected(own.url) as redis:
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
            await redis.flushall()
            await events.wait_for("limits_published_again")
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
            await redis.hdel(OTHER_KEYS.meta, "max_jobs")
            await events.wait_for("limits_published_again", times=2)
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)

    async def test_those_of_another_worker_are_left_alone(self, redis: Redis, keys: Keys) -> None:
        """During a deployment two workers must not publish in turns for ever."""
        theirs = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=5)
        await publish_meta(redis, keys, theirs)
        ours = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=6)
        assert await publish_meta(redis, keys, ours, only_missing=True) == 0
        assert await read_meta(redis, keys) == theirs

    async def test_a_producer_that_runs_keeps_to_what_it_knows(
        self, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        await queue.delete(user_id=1, point_id="mem_1_1")
        await redis.delete(keys.meta)
        queue._producer._meta_read_at = float("-inf")
        await queue.delete(user_id=1, point_id="mem_1_1")
        found = await read_meta(redis, keys)
        assert found is not None
        assert found.partitions == PARTITIONS

    async def test_another_number_of_partitions_still_ends_the_worker(
        self, settings: MakeSettings, own: RedisServer
    ) -> None:
        chosen = settings(redis_url=SecretStr(own.url), queue_prefix="mw", rescue_interval_s=0.05)
        ready = asyncio.Event()
        task = asyncio.create_task(WorkerProcess(chosen, "ingest").run(on_ready=ready.set))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S), connected(own.url) as redis:
            await ready.wait()
            async with redis.pipeline(transaction=True) as pipe:
                pipe.flushall()
                pipe.hset(OTHER_KEYS.meta, "partitions", PARTITIONS + 1)
                await pipe.execute()
            with pytest.raises(PartitionMismatch, match=f"{PARTITIONS + 1} partitions"):
                await task


async def test_everything_is_lost_under_load(settings: MakeSettings, own: RedisServer, events: Events) -> None:
    """Who is told that a job was applied finds its point; what is pushed afterwards is applied."""
    chosen = settings(redis_url=SecretStr(own.url), queue_prefix="mw", rescue_interval_s=0.05)
    told: list[tuple[int, int, str]] = []
    lost = asyncio.Event()

    async def produce(queue: MemoryQueue, user_id: int) -> None:
        number = 0
        while not (lost.is_set() and number >= 20):
            number += 1
            try:
                receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(number))
                await queue.wait_applied(receipt, timeout=1)
                told.append((user_id, number, "applied"))
            except MemoryWorkerError as error:
                told.append((user_id, number, type(error).__name__))
                assert isinstance(error, (NotApplied, QueueUnavailable)), error

    async with running(chosen), MemoryQueue.connect(own.url) as queue, connected(own.url) as redis:
        producers = [asyncio.create_task(produce(queue, user_id)) for user_id in range(1, 9)]
        before: list[Any] = [await queue.upsert(user_id=9, point_id=f"mem_9_{n}", vector=axis(n)) for n in range(50)]
        for _ in range(3):
            await redis.flushall()
            await events.wait_for("limits_published_again")
        lost.set()
        await asyncio.gather(*producers)
        for user_id, number, what in told:
            if what == "applied":
                assert await queue.get(user_id=user_id, point_ids=[f"mem_{user_id}_{number}"]), (user_id, number)
        for receipt in before:
            with pytest.raises(UnknownReceipt):
                await queue.wait_applied(receipt, timeout=1)
        assert sum(what == "applied" for *_, what in told) >= 8 * 10
        assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
