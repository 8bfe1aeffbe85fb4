"""Ingest workers see that reads are being answered, and leave room for them in Qdrant."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.read_activity import ReadActivity
from memory_worker.wire.keys import Keys
from tests.integration.conftest import SIGNAL_TIMEOUT_S, MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import axis, memory
from tests.integration.proxies import UPDATE, Hold, QdrantProxy


async def test_a_search_is_seen_by_other_processes_for_a_short_time(
    settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    async with running(settings(), role="search"):
        await queue.search(user_id=1, vector=axis(0))
        assert 0 < await redis.pttl(keys.reading) <= 500
        seen = ReadActivity(redis, keys)
        assert not seen.is_active()  # nothing is known before the first look
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not seen.is_active():
                await queue.search(user_id=1, vector=axis(0))


async def test_reads_do_not_need_it(settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
    await redis.lpush(keys.reading, "by hand")  # type: ignore[misc]
    async with running(settings(), role="search"):
        assert await queue.search(user_id=1, vector=axis(0)) == []


async def test_while_reads_are_answered_one_batch_at_a_time_is_sent(
    drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
) -> None:
    users = {0: 4, 1: 1}  # each in a partition of its own, of two
    for partition, user_id in users.items():
        await pushed(memory(user_id, 1), partition=partition, partitions=2)
    await redis.set(keys.reading, 1)
    draining = drainer(partitions=2, read_priority_requests=1)
    activity = draining._context.writer._gate._is_reading
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while not activity():  # noqa: ASYNC110  # it is looked up a few times a second
            await asyncio.sleep(0.01)
    hold = qdrant_proxy.rules[UPDATE] = Hold()
    drains = [asyncio.create_task(draining.drain(partition)) for partition in users]
    await hold.reached.wait()
    await asyncio.gather(*(redis.ping() for _ in range(20)))  # time for the other one
    assert qdrant_proxy.calls.count(UPDATE) == 1
    hold.release()
    results = [await drain for drain in drains]
    assert [(result.jobs, result.dead) for result in results] == [(1, 0), (1, 0)]
