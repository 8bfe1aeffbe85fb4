"""A Redis that has lost data: the limits are published again, and no lost job is reported as applied."""

from __future__ import annotations

import asyncio
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
    QueueUnavailable,
    UnknownReceipt,
)
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.wiring import queue_meta
from memory_worker.wire.applied import wait_applied
from memory_worker.wire.clock import redis_time_ms
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeSettings, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.leases import drain_all
from tests.servers import RedisServer

OTHER_KEYS = Keys("mw")


async def pushed(redis: Redis, keys: Keys, partition: int = 0) -> Receipt:
    """Push a job. Return once Redis's clock is past its millisecond, so that the next job has a later one."""
    receipt = (await push(redis, keys, PARTITIONS, [(partition, b"x")]))[0]
    pushed_ms = int(receipt.entry_id.partition("-")[0])
    while await redis_time_ms(redis) < pushed_ms + 1:
        pass
    return receipt


class TestReceipts:
    async def test_a_receipt_of_an_evicted_stream_is_unknown(self, redis: Redis, keys: Keys) -> None:
        lost, other = await pushed(redis, keys, 0), await pushed(redis, keys, 1)
        await redis.delete(keys.stream(0))
        later = await pushed(redis, keys, 0)
        await drain_all(redis, keys, 0)
        await drain_all(redis, keys, 1)

        with pytest.raises(UnknownReceipt, match=f"{lost}"):
            await wait_applied(redis, keys, lost, timeout_s=1)
        await wait_applied(redis, keys, later, timeout_s=1)
        await wait_applied(redis, keys, other, timeout_s=1)

    async def test_a_receipt_is_unknown_if_the_epoch_was_evicted_too(self, redis: Redis, keys: Keys) -> None:
        lost = await pushed(redis, keys)
        await redis.delete(keys.stream(0))
        await pushed(redis, keys)
        await drain_all(redis, keys)
        await redis.delete(keys.since)
        with pytest.raises(UnknownReceipt):
            await wait_applied(redis, keys, lost, timeout_s=1)
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS), only_missing=True)  # as a worker does
        with pytest.raises(UnknownReceipt):
            await wait_applied(redis, keys, lost, timeout_s=1)
        later = await pushed(redis, keys)
        await drain_all(redis, keys)
        await wait_applied(redis, keys, later, timeout_s=1)

    async def test_a_wait_during_the_loss_ends_with_an_error(self, redis: Redis, keys: Keys) -> None:
        lost = await pushed(redis, keys)
        waiting = asyncio.create_task(wait_applied(redis, keys, lost, timeout_s=SIGNAL_TIMEOUT_S))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not [client for client in await redis.client_list() if client["cmd"] == "xread"]:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await redis.delete(keys.stream(0), keys.meta, keys.since, keys.backlog)
        await pushed(redis, keys)
        await drain_all(redis, keys)
        with pytest.raises(UnknownReceipt):
            await waiting

    async def test_a_dead_letter_is_found_after_the_loss_of_the_epoch(self, redis: Redis, keys: Keys) -> None:
        receipt = await pushed(redis, keys)
        await redis.xadd(keys.dead(0), {"reason": "refused", "detail": "why"}, id=receipt.entry_id)
        await redis.delete(keys.since)
        with pytest.raises(DeadLettered, match="why"):
            await wait_applied(redis, keys, receipt, timeout_s=1)

    async def test_receipts_of_an_empty_stream_are_applied(self, redis: Redis, keys: Keys) -> None:
        first = await pushed(redis, keys)
        await drain_all(redis, keys)
        second = await pushed(redis, keys)
        await drain_all(redis, keys)
        for receipt in (first, second):
            await wait_applied(redis, keys, receipt, timeout_s=1)

    async def test_a_receipt_of_an_entry_without_an_epoch_is_applied(self, redis: Redis, keys: Keys) -> None:
        """Another version pushed it. What was pushed since a worker of this version started is known."""
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
        entry_id = await redis.xadd(keys.stream(0), {"v": "1", "j": "x"})
        await drain_all(redis, keys)
        await wait_applied(redis, keys, Receipt(0, entry_id.decode()), timeout_s=1)


class TestLimits:
    async def test_lost_limits_are_published_again(
        self, settings: MakeSettings, own_redis: RedisServer, events: Events, tmp_path: Path
    ) -> None:
        chosen = settings(
            redis_url=SecretStr(own_redis.url),
            queue_prefix="mw",
            rescue_interval_s=0.05,
            queue_max_jobs=7,
            queue_max_bytes=0,
        )
        async with running(chosen, role="ingest"), connected(own_redis.url) as redis:
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
            await redis.flushall()
            await events.wait_for("limits_published_again")
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
            await redis.hdel(OTHER_KEYS.meta, "max_jobs")
            await events.wait_for("limits_published_again", times=2)
            assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)

    async def test_the_limits_of_another_worker_are_not_changed(self, redis: Redis, keys: Keys) -> None:
        """During a deployment, two workers must not replace the limits of each other again and again."""
        theirs = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=5)
        await publish_meta(redis, keys, theirs)
        ours = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=6)
        assert await publish_meta(redis, keys, ours, only_missing=True) == 0
        assert await read_meta(redis, keys) == theirs

    async def test_a_running_producer_keeps_the_number_of_partitions(
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


async def test_all_data_is_lost_under_load(settings: MakeSettings, own_redis: RedisServer, events: Events) -> None:
    """A job that was reported as applied has its point. Jobs that are pushed afterwards are applied."""
    chosen = settings(redis_url=SecretStr(own_redis.url), queue_prefix="mw", rescue_interval_s=0.05)
    reported: list[tuple[int, int, str]] = []
    lost = asyncio.Event()

    async def produce(queue: MemoryQueue, user_id: int) -> None:
        number = 0
        while not (lost.is_set() and number >= 20):
            number += 1
            try:
                receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(number))
                await queue.wait_applied(receipt, timeout=1)
                reported.append((user_id, number, "applied"))
            except MemoryWorkerError as error:
                reported.append((user_id, number, type(error).__name__))
                assert isinstance(error, (NotApplied, QueueUnavailable)), error

    async with running(chosen), MemoryQueue.connect(own_redis.url) as queue, connected(own_redis.url) as redis:
        producers = [asyncio.create_task(produce(queue, user_id)) for user_id in range(1, 9)]
        before: list[Any] = [await queue.upsert(user_id=9, point_id=f"mem_9_{n}", vector=axis(n)) for n in range(50)]
        for _ in range(3):
            await redis.flushall()
            await events.wait_for("limits_published_again")
        lost.set()
        await asyncio.gather(*producers)
        for user_id, number, what in reported:
            if what == "applied":
                assert await queue.get(user_id=user_id, point_ids=[f"mem_{user_id}_{number}"]), (user_id, number)
        for receipt in before:
            with pytest.raises(UnknownReceipt):
                await queue.wait_applied(receipt, timeout=1)
        assert sum(what == "applied" for *_, what in reported) >= 8 * 10
        assert await read_meta(redis, OTHER_KEYS) == queue_meta(chosen)
