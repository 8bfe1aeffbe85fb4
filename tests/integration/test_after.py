"""Reads after a receipt: they see what its job did, or say why they cannot."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Count, Info, ReadJob, Receipt, Reply, Upsert, encode_job
from memory_worker.contract.errors import DeadLettered, InvalidJob, NotApplied, ReadFailed, UnknownReceipt
from memory_worker.wire.call import enqueue_call, wait_for_reply
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import MakeSettings, running
from tests.integration.jobs import PARTITIONS, axis


async def ask(redis: Redis, keys: Keys, job: ReadJob) -> Reply:
    """Send a job without waiting for the receipt first."""
    reply_to = (await enqueue_call(redis, keys, job)).reply_to
    reply = await wait_for_reply(redis, reply_to, timeout_s=10)
    assert reply is not None
    return reply


async def test_every_read_can_wait_for_a_write(settings: MakeSettings, queue: MemoryQueue) -> None:
    async with running(settings()):
        for number in range(1, 4):
            common: dict[str, Any] = {"user_id": 1, "kind": "document"}
            point = {"point_id": f"doc_1_5_{number}", "vector": axis(0), "payload": {"file_id": 5}}
            after = await queue.upsert(**common, **point)
            assert len(await queue.search(**common, vector=axis(0), after=after)) == number
            assert len(await queue.get(**common, point_ids=[point["point_id"]], after=after)) == 1
            assert len((await queue.list(**common, after=after)).points) == number
            assert await queue.count(**common, after=after) == number
            assert (await queue.facet(**common, by="file_id", after=after)).values[0].count == number
            assert (await queue.files(**common, after=after))[0].chunks == number
            assert (await queue.stats(**common, after=after)).points == number
            (found,) = await queue.search_many([{**common, "vector": axis(0)}], after=after)
            assert len(found.hits or []) == number


async def test_a_worker_refuses_to_answer_before_the_job_is_applied(
    settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    async with running(settings(), role="ingest"):
        pass  # it has published the limits
    async with running(settings(), role="search"):
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        reply = await ask(redis, keys, Count(user_id=1, after=str(receipt)))
        assert reply.error is not None
        assert reply.error.code == "not_applied"
        assert reply.error.message == f"job {receipt} has not been applied yet; it is still queued"
        began = time.monotonic()
        with pytest.raises(NotApplied, match="still queued"):
            await queue.count(user_id=1, after=receipt, timeout=0.5)
        assert time.monotonic() - began < 5
        async with running(settings(), role="ingest"):
            assert await queue.count(user_id=1, after=receipt) == 1
        reply = await ask(redis, keys, Count(user_id=1, after=str(receipt)))
        assert (reply.error, reply.count) == (None, 1)


async def test_a_read_begins_as_soon_as_the_job_is_applied(settings: MakeSettings, queue: MemoryQueue) -> None:
    async with running(settings(), role="search"):
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        waiting = asyncio.create_task(queue.count(user_id=1, after=receipt, timeout=20))
        async with running(settings(), role="ingest"):
            assert await waiting == 1


async def test_dead_and_unknown_jobs_are_reported(
    settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    async with running(settings()):
        job = Upsert(user_id=1, point_id="mem_1_1", vector=b"1234")
        (dead,) = await push(redis, keys, PARTITIONS, [(0, encode_job(job))], version=1)
        with pytest.raises(DeadLettered):
            await queue.count(user_id=1, after=dead)
        reply = await ask(redis, keys, Count(user_id=1, after=str(dead)))
        assert reply.error is not None
        assert reply.error.code == "not_applied"
        assert "is a dead letter (invalid)" in reply.error.message

        old = Receipt(0, "1000-0")
        with pytest.raises(UnknownReceipt):
            await queue.count(user_id=1, after=old)
        reply = await ask(redis, keys, Count(user_id=1, after=str(old)))
        assert reply.error is not None
        assert reply.error.code == "not_applied"
        assert "its state is unknown" in reply.error.message


async def test_a_wrong_receipt_is_invalid(settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
    with pytest.raises(InvalidJob, match="after: "):
        await queue.count(user_id=1, after="0/1-1")  # type: ignore[arg-type]
    async with running(settings(), role="search"):
        reply = await ask(redis, keys, Count(user_id=1, after="nonsense"))
        assert reply.error is not None
        assert reply.error.code == "invalid"
        assert reply.error.message.startswith("after: ")
        assert (await ask(redis, keys, Info())).ok


async def test_the_arguments_are_checked_before_the_wait(settings: MakeSettings, queue: MemoryQueue) -> None:
    receipt = Receipt(0, f"{2**52}-0")
    async with running(settings(), role="search"):
        with pytest.raises(InvalidJob, match="category"):
            await queue.count(user_id=1, kind="document", category="a", after=receipt, timeout=30)
        with pytest.raises((NotApplied, ReadFailed)):
            await queue.count(user_id=1, after=receipt, timeout=0.1)
