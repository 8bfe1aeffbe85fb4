"""Dead letters are kept, listed, dropped and replayed."""

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
from tests.integration.leases import give_back, held_lease, reading


@pytest.fixture
def dead_letters(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, PARTITIONS)


AGAIN = encode_job(memory(7, 1))


async def die(redis: Redis, keys: Keys, partition: int, *bodies: bytes) -> list[Receipt]:
    """Push jobs of one user and point, and let them become dead letters."""
    receipts = await push(redis, keys, PARTITIONS, [(partition, body) for body in bodies])
    lease = await held_lease(redis, keys, partition)
    log = JobLog(redis, keys, reading(keys))
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"")
    batch = (await log.read(lease, max_jobs=10_000, max_bytes=2**30)).entries
    dead = [DeadEntry(entry=entry, reason="invalid", detail="vector: NaN", job=job) for entry in batch]
    guard = Guard()
    for entry in batch:
        guard.add(job, entry.position, entry.entry_id)
    await log.commit(BatchCommit(lease=lease, batch=batch, dead=dead, guards={7: guard}))
    await give_back(redis, keys, lease)
    job_id = keys.drain_job_id(partition)
    await redis.delete(keys.arq_job(job_id))
    await redis.zrem(keys.drain_queue, job_id)
    return receipts


async def test_all_dead_letters_are_listed_by_partition_and_age(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    assert await all_dead_letters(redis, keys, PARTITIONS) == []
    late = await die(redis, keys, 2, *[b"%d" % number for number in range(201)])  # pages have 100
    early = await die(redis, keys, 0, b"a", b"b")
    assert [dead_letter.receipt for dead_letter in await all_dead_letters(redis, keys, PARTITIONS)] == [*early, *late]


async def test_a_dead_letter_has_reason_user_and_body(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
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
    assert await all_dead_letters(redis, keys, PARTITIONS) == [dead_letter]


async def test_a_receipt_without_a_dead_letter_changes_nothing(
    dead_letters: DeadLetters, everything: Everything
) -> None:
    receipt = Receipt(0, "1-1")
    assert await dead_letters.get(receipt) is None
    assert await dead_letters.drop([receipt]) == 0
    assert await dead_letters.replay(receipt) is None
    assert await everything() == {}


async def test_a_replay_is_appended_behind_all_waiting_jobs_and_wakes_a_worker(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    [receipt] = await die(redis, keys, 1, AGAIN)
    [newer] = await push(redis, keys, PARTITIONS, [(1, b"newer")])
    await redis.delete(keys.arq_job(keys.drain_job_id(1)))

    first = await dead_letters.replay(receipt)

    assert first is not None
    assert first.partition == 1
    assert await dead_letters.get(receipt) is None
    job_id = keys.drain_job_id(1)
    assert await redis.exists(keys.arq_job(job_id))
    assert await redis.zscore(keys.drain_queue, job_id) == pytest.approx(time.time() * 1000, abs=60_000)
    version = str(CONTRACT_VERSION).encode()
    fields = {b"v": version, b"j": AGAIN, b"r": receipt.entry_id.encode()}
    assert await redis.xrange(keys.stream(1)) == [
        (newer.entry_id.encode(), {b"v": version, b"j": b"newer"}),
        (first.entry_id.encode(), fields),
    ]
    assert await redis.hgetall(keys.backlog) == {b"jobs": b"2", b"bytes": b"%d" % (len(AGAIN) + len(b"newer"))}
    assert await dead_letters.replay(receipt) is None
    assert await redis.xlen(keys.stream(1)) == 2
