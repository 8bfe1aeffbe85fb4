"""Outages of Qdrant during a drain: no job is lost, and no job becomes a dead letter."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import Delete, Purge
from memory_worker.ingest.context import DrainResult
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from tests.integration.conftest import Contents, Dead, MakeDrainer, Push
from tests.integration.jobs import memory
from tests.integration.leases import waiting
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, failing, lose_reply, unavailable


async def delay(outage: DrainResult) -> None:
    """Wait until the partition would be woken again."""
    assert outage.wake_after_s is not None
    await asyncio.sleep(outage.wake_after_s)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL", "NOT_FOUND"])
async def test_nothing_is_lost_and_the_delay_grows(
    drainer: MakeDrainer,
    pushed: Push,
    dead_letters: Dead,
    qdrant_proxy: QdrantProxy,
    redis: Redis,
    keys: Keys,
    shape: CollectionShape,
    engine: Contents,
    code: str,
) -> None:
    draining = drainer(retry=RetryPolicy(base_s=0.01, max_s=0.05))
    ids = await pushed(memory(1, 1), b"malformed", memory(1, 2))
    backlog = await redis.hgetall(keys.backlog)

    qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode[code])
    for longest_s in (0.01, 0.02, 0.04, 0.05, 0.05):
        result = await draining.drain(0)
        assert (result.ending, result.jobs, result.dead) == ("outage", 0, 0)
        assert result.wake_after_s is not None
        assert longest_s / 2 <= result.wake_after_s <= longest_s
        assert await waiting(redis, keys) == ids
        assert await dead_letters() == []
        assert await redis.hgetall(keys.backlog) == backlog
        assert not await redis.exists(keys.lease(0))
        await delay(result)

    qdrant_proxy.rules.clear()
    result = await draining.drain(0)
    assert (result.ending, result.jobs, result.dead) == ("empty", 3, 1)
    assert engine.points(shape.base("memory")) == {"mem_1_1", "mem_1_2"}

    await pushed(memory(1, 3))
    qdrant_proxy.rules[UPDATE] = unavailable
    result = await draining.drain(0)
    assert result.wake_after_s is not None
    assert result.wake_after_s <= 0.01, "a success must reset the delay"


async def test_an_outage_between_two_batches_keeps_the_rest(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
) -> None:
    async def fail_after_two(call: Call) -> Any:
        if qdrant_proxy.calls.count(UPDATE) > 2:
            raise Refusal(grpc.StatusCode.UNAVAILABLE)
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = fail_after_two
    ids = await pushed(*(memory(1, number) for number in range(8)))
    draining = drainer(batch_max_jobs=2)
    outage = await draining.drain(0)
    assert outage.ending == "outage"
    assert await waiting(redis, keys) == ids[4:]
    qdrant_proxy.rules.clear()
    await delay(outage)
    result = await draining.drain(0)
    assert (result.ending, result.jobs) == ("empty", 4)


async def test_no_drain_sends_a_request_before_the_delay_is_over(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy
) -> None:
    draining = drainer(retry=RetryPolicy(base_s=1000, max_s=1000))
    await pushed(memory(1, 1))
    qdrant_proxy.rules[UPDATE] = unavailable
    for _ in range(5):
        assert (await draining.drain(0)).ending == "outage"
    assert qdrant_proxy.calls.count(UPDATE) == 1


async def test_the_server_may_ask_for_a_longer_delay(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy
) -> None:
    qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after="17")
    await pushed(memory(1, 1))
    assert (await drainer().drain(0)).wake_after_s == 17


async def test_a_server_that_refuses_all_jobs_is_an_outage(
    drainer: MakeDrainer, pushed: Push, dead_letters: Dead, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
) -> None:
    """Strict mode or a wrong schema is not the fault of the jobs."""
    ids = await pushed(*(memory(1, number) for number in range(9)))
    qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.INVALID_ARGUMENT)
    draining = drainer()
    for _ in range(3):
        assert (await draining.drain(0)).ending == "outage"
    assert await waiting(redis, keys) == ids
    assert await dead_letters() == []

    qdrant_proxy.rules.clear()
    result = await draining.drain(0)
    assert (result.ending, result.jobs, result.dead) == ("empty", 9, 0)


async def test_a_batch_that_was_applied_in_part_is_applied_again(
    drainer: MakeDrainer,
    pushed: Push,
    qdrant_proxy: QdrantProxy,
    redis: Redis,
    keys: Keys,
    shape: CollectionShape,
    engine: Contents,
) -> None:
    await pushed(memory(1, 1), memory(1, 2))
    await drainer().drain(0)

    async def apply_the_deletes_only(call: Call) -> Any:
        del call.request.operations[1:]
        return await lose_reply(call)

    qdrant_proxy.rules[UPDATE] = apply_the_deletes_only
    ids = await pushed(Delete(user_id=1, point_ids=["mem_1_1"]), memory(1, 2, value="new"))
    assert (await drainer().drain(0)).ending == "outage"
    assert engine.points(shape.base("memory")) == {"mem_1_2"}
    assert await waiting(redis, keys) == ids

    qdrant_proxy.rules.clear()
    assert (await drainer().drain(0)).ending == "empty"
    assert engine.payloads(shape.base("memory"))["mem_1_2"]["value"] == "new"


async def test_a_batch_whose_reply_was_lost_is_applied_again(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    qdrant_proxy.rules[UPDATE] = lose_reply
    await pushed(memory(1, 1, value="a"), Purge(user_id=1, kind="memory"), memory(1, 2))
    assert (await drainer().drain(0)).ending == "outage"
    assert engine.points(shape.base("memory")) == {"mem_1_2"}
    qdrant_proxy.rules.clear()
    assert (await drainer().drain(0)).ending == "empty"
    assert engine.points(shape.base("memory")) == {"mem_1_2"}
