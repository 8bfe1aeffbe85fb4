"""Dead letters: kept, listed, dropped, replayed."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, Receipt, Upsert, encode_job
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.log import BatchCommit, DeadEntry, JobLog
from memory_worker.queue.replay_guard import Guard
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import Everything
from tests.integration.jobs import PARTITIONS, memory
from tests.integration.leases import acquire_lease, give_back, reading


@pytest.fixture
def dead_letters(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, PARTITIONS)


AGAIN = encode_job(memory(7, 1))


async def die(redis: Redis, keys: Keys, partition: int, *bodies: bytes) -> list[Receipt]:
    """Push jobs and have them become dead letters, of one user and one point."""
    receipts = await push(redis, keys, PARTITIONS, [(partition, body) for body in bodies])
    lease = await acquire_lease(redis, keys, partition, ttl_s=8, partitions=PARTITIONS)
    assert lease is not None
    log = JobLog(redis, keys, reading(keys))
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"")
    batch = await log.read(lease, max_jobs=10_000, max_bytes=2**30)
    dead = [DeadEntry(entry=entry, reason="invalid", detail="vector: NaN", job=job) for entry in batch]
    guard = Guard()
    for entry in batch:
        guard.add(job, entry.position, entry.entry_id)
    await log.commit(BatchCommit(lease=lease, batch=batch, dead=dead, guards={7: guard}))
    await give_back(redis, keys, lease)
    for job_id in (keys.drain_job_id(partition),):
        await redis.delete(keys.arq_job(job_id))
        await redis.zrem(keys.drain_queue, job_id)
    return receipts


async def test_all_of_them_partition_by_partition_oldest_first(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    late = await die(redis, keys, 2, *[b"%d" % number for number in range(201)])  # pages have 100
    early = await die(redis, keys, 0, b"a", b"b")
    assert [dead_letter.receipt async for dead_letter in all_dead_letters(dead_letters)] == [*early, *late]


async def test_none(dead_letters: DeadLetters) -> None:
    assert [dead_letter async for dead_letter in all_dead_letters(dead_letters)] == []


async def test_what_a_letter_says(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    [receipt] = await die(redis, keys, 1, b"body")
    dead_letter = await dead_letters.get(receipt)
    assert dead_letter is not None
    assert (dead_letter.receipt, dead_letter.reason, dead_letter.detail) == (receipt, "invalid", "vector: NaN")
    assert (dead_letter.op, dead_letter.user_id, dead_letter.version, dead_letter.body) == (
        "upsert",
        "7",
        CONTRACT_VERSION,
        b"body",
    )
    assert dead_letter.died_s == pytest.approx(time.time(), abs=60)
    assert [found async for found in all_dead_letters(dead_letters)] == [dead_letter]


async def test_no_such_letter(dead_letters: DeadLetters, everything: Everything) -> None:
    receipt = Receipt(0, "1-1")
    assert await dead_letters.get(receipt) is None
    assert not await dead_letters.drop([receipt])
    assert await dead_letters.replay(receipt) is None
    assert await everything() == {}


async def test_drop(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    first, second = await die(redis, keys, 0, b"a", b"b")
    assert await dead_letters.drop([first])
    assert [dead_letter.receipt async for dead_letter in all_dead_letters(dead_letters)] == [second]
    assert not await dead_letters.drop([first])


async def test_replay_appends_behind_all_that_waits_and_rings(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    [receipt] = await die(redis, keys, 1, AGAIN)

    first = await dead_letters.replay(receipt)

    assert first is not None
    assert first.partition == 1
    assert await dead_letters.get(receipt) is None
    job_id = keys.drain_job_id(1)
    assert await redis.exists(keys.arq_job(job_id))
    assert await redis.zscore(keys.drain_queue, job_id) == pytest.approx(time.time() * 1000, abs=60_000)
    version = str(CONTRACT_VERSION).encode()
    fields = {b"v": version, b"j": AGAIN, b"r": receipt.entry_id.encode()}
    assert await redis.xrange(keys.stream(1)) == [(first.entry_id.encode(), fields)]
    assert await redis.hgetall(keys.backlog) == {b"jobs": b"1", b"bytes": b"%d" % len(AGAIN)}
    assert await dead_letters.replay(receipt) is None
    assert await redis.xlen(keys.stream(1)) == 1


async def test_replay_keeps_the_order(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    [receipt] = await die(redis, keys, 0, AGAIN)
    await push(redis, keys, PARTITIONS, [(0, b"newer")])
    assert await dead_letters.replay(receipt)
    assert [fields[b"j"] for _, fields in await redis.xrange(keys.stream(0))] == [b"newer", AGAIN]
