"""A push is stored once or not at all, even if its connection ends or a copy of it arrives late."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from memory_worker.client import producer
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Upsert, decode_write, encode_job, partition_of
from memory_worker.contract.errors import InvalidJob, PushedInPart
from memory_worker.queue.partitions import publish_meta, repartition
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything
from tests.integration.jobs import LIMITS, PARTITIONS, axis, memory
from tests.integration.proxies import RedisProxy

USER = 4
META = QueueMeta(partitions=PARTITIONS, limits=LIMITS)


async def written(redis: Redis, keys: Keys) -> list[str]:
    """Return the operations of the entries in the user's partition, in order."""
    jobs = [decode_write(fields[b"j"]) for _, fields in await redis.xrange(keys.stream(partition_of(USER, PARTITIONS)))]
    return [
        f"upsert {job.point_id}" if isinstance(job, Upsert) else f"delete {job.point_ids[0]}"
        for job in jobs
        if isinstance(job, (Upsert, Delete))
    ]


async def test_a_copy_that_arrives_after_a_later_delete_is_not_stored(
    redis_proxy: RedisProxy, redis: Redis, keys: Keys
) -> None:
    await publish_meta(redis, keys, META)
    async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix) as queue:
        await queue.upsert(user_id=USER, point_id=f"mem_{USER}_1", vector=axis(0))
        redis_proxy.hold_back(b"EVALSHA")
        await queue.upsert(user_id=USER, point_id=f"mem_{USER}_2", vector=axis(0))
        await queue.delete(user_id=USER, point_id=f"mem_{USER}_2")
        delivered = redis_proxy.seen(b"EVALSHA")
        redis_proxy.deliver()
        await delivered.wait()
        await queue.upsert(user_id=USER, point_id=f"mem_{USER}_3", vector=axis(0))
    assert await written(redis, keys) == [
        f"upsert mem_{USER}_1",
        f"upsert mem_{USER}_2",
        f"delete mem_{USER}_2",
        f"upsert mem_{USER}_3",
    ]
    assert await redis.hget(keys.backlog, "jobs") == b"4"


@pytest.mark.parametrize("at_once", [1, 40])
async def test_a_push_whose_reply_was_lost_is_stored_once(
    redis_proxy: RedisProxy, redis: Redis, keys: Keys, at_once: int
) -> None:
    await publish_meta(redis, keys, META)
    async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix) as queue:
        await queue.upsert(user_id=USER, point_id=f"mem_{USER}_a", vector=axis(0))
        redis_proxy.lose_reply_to(b"EVALSHA")
        receipts = await asyncio.gather(
            *(queue.upsert(user_id=USER, point_id=f"mem_{USER}_{number}", vector=axis(0)) for number in range(at_once))
        )
    assert len(await written(redis, keys)) == at_once + 1
    entries = await redis.xrange(keys.stream(receipts[0].partition))
    assert sorted(receipt.entry_id.encode() for receipt in receipts) == sorted(entry_id for entry_id, _ in entries[1:])


async def test_a_copy_changes_nothing_and_gets_the_same_receipts(
    redis: Redis, keys: Keys, everything: Everything
) -> None:
    jobs = [(2, b"a"), (0, b"b"), (2, b"c")]
    deadline_ms = time.time() * 1000 + 5_000
    receipts = await push(redis, keys, PARTITIONS, jobs, token="t", deadline_ms=deadline_ms)
    assert await push(redis, keys, PARTITIONS, jobs, token="t", deadline_ms=deadline_ms) == receipts
    # The same holds if the queue is full by then, or the time of the push is over.
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, max_jobs=1))
    before = await everything()
    assert await push(redis, keys, PARTITIONS, jobs, token="t", deadline_ms=deadline_ms) == receipts
    assert await push(redis, keys, PARTITIONS, jobs, token="t", deadline_ms=1) == receipts
    assert await everything() == before


async def test_a_push_is_remembered_as_long_as_a_copy_could_be_stored(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"a")], token="t", deadline_ms=time.time() * 1000 + 5_000)
    assert 5_000 < await redis.pttl(keys.pushed("t")) <= 7_100
    await push(redis, keys, PARTITIONS, [(0, b"a")], token="any time", life_ms=30_000)
    assert 30_000 < await redis.pttl(keys.pushed("any time")) <= 32_000


async def test_a_repartition_whose_reply_was_lost_is_done_once(
    redis_proxy: RedisProxy, watched: Redis, keys: Keys
) -> None:
    await publish_meta(watched, keys, META)
    redis_proxy.lose_reply_to(b"EVALSHA")
    assert await repartition(watched, keys, 2 * PARTITIONS) == PARTITIONS
    assert await watched.hget(keys.meta, "partitions") == str(2 * PARTITIONS).encode()


class TestSizes:
    """Redis checks sizes, too, because a producer may know other limits or none."""

    async def test_a_push_with_a_job_that_is_too_large_stores_nothing(
        self, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        await publish_meta(redis, keys, META)
        before = await everything()
        size = LIMITS.max_job_bytes + 1
        with pytest.raises(InvalidJob, match=rf"job: at most {LIMITS.max_job_bytes:,} bytes .* got {size:,}"):
            await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"x" * size)])
        assert await everything() == before
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"x" * (size - 1))])

    async def test_a_producer_with_older_limits_learns_the_new_ones(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await publish_meta(redis, keys, META)
        monkeypatch.setattr(producer, "PUSH_MAX_JOBS", 2)
        jobs = [memory(USER, number) for number in range(3)]
        jobs.append(Upsert(user_id=USER, point_id=f"mem_{USER}_9", vector=axis(0), payload={"value": "x" * 2_000}))
        await queue.push_many(jobs)
        limits = LIMITS.__class__(dimension=LIMITS.dimension, max_job_bytes=1_024)
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=limits))
        with pytest.raises(PushedInPart) as in_part:
            await queue.push_many(jobs)
        assert len(in_part.value.stored) == 2
        assert isinstance(in_part.value.__cause__, InvalidJob)
        with pytest.raises(InvalidJob, match="1,024"):  # before any job is sent
            await queue.push_many(jobs)
        assert len(await written(redis, keys)) == 6
        assert len(encode_job(jobs[-1])) > 1_024
