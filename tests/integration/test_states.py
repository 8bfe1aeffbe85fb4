"""The states of jobs by their receipts. They agree with waiting for a job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import JobState, Purge, Receipt, Upsert
from memory_worker.contract.errors import DeadLettered, InvalidJob, NotApplied, UnknownReceipt
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import BatchCommit, DeadEntry, JobLog
from memory_worker.wire.applied import check_applied, job_states, wait_applied
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import MakeDrainer, Push
from tests.integration.jobs import PARTITIONS, memory
from tests.integration.leases import drain_all, give_back, held_lease, reading
from tests.integration.proxies import UPDATE, QdrantProxy, RedisProxy, refusing

ERRORS = {"waiting": NotApplied, "dead": DeadLettered, "unknown": UnknownReceipt}


@pytest.fixture
def dead_letters_of_all(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, PARTITIONS)


async def pushed_to(redis: Redis, keys: Keys, partition: int, count: int) -> list[Receipt]:
    return await push(redis, keys, PARTITIONS, [(partition, b"x")] * count)


async def die(redis: Redis, keys: Keys, partition: int, count: int = 1, ref: str | None = "r") -> list[Receipt]:
    """Push jobs that become dead letters."""
    receipts = await pushed_to(redis, keys, partition, count)
    lease: Lease = await held_lease(redis, keys, partition)
    log = JobLog(redis, keys, reading(keys), outcomes_max=0)
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"", ref=ref)
    batch = (await log.read(lease, max_jobs=count, max_bytes=2**30)).entries
    dead = [DeadEntry(entry=entry, reason="refused", detail="why", job=job) for entry in batch]
    await log.commit(BatchCommit(lease=lease, batch=batch, dead=dead))
    await give_back(redis, keys, lease)
    return receipts


async def agreed(redis: Redis, keys: Keys, receipts: list[Receipt]) -> list[JobState]:
    """Return the states of jobs; waiting for them must agree, and so must the check of reads."""
    states = await job_states(redis, keys, receipts)
    for receipt, found in zip(receipts, states, strict=True):
        assert found.receipt == receipt
        for work in (check_applied(redis, keys, receipt), wait_applied(redis, keys, receipt, timeout_s=0.001)):
            if found.state == "applied":
                await work
            else:
                with pytest.raises(NotApplied if found.state == "unknown" else ERRORS[found.state]) as raised:
                    await work
                assert type(raised.value) is ERRORS[found.state]
    return states


async def test_each_state(redis: Redis, keys: Keys) -> None:
    await pushed_to(redis, keys, 0, 1)
    old = Receipt(0, "5-0")
    applied = await pushed_to(redis, keys, 1, 2)
    await drain_all(redis, keys, 1)
    [dead] = await die(redis, keys, 2)
    [waiting, waiting_too] = [*await pushed_to(redis, keys, 1, 1), *await pushed_to(redis, keys, 3, 1)]
    receipts = [waiting, old, applied[1], dead, applied[0], waiting_too, dead]
    died = JobState(dead, "dead", "refused", "why", "r")
    assert await agreed(redis, keys, receipts) == [
        JobState(waiting, "waiting"),
        JobState(old, "unknown"),
        JobState(applied[1], "applied"),
        died,
        JobState(applied[0], "applied"),
        JobState(waiting_too, "waiting"),
        died,
    ]
    await redis.delete(keys.since)
    found = await agreed(redis, keys, receipts)
    assert [one.state for one in found] == ["unknown", "unknown", "unknown", "dead", "unknown", "unknown", "dead"]


async def test_a_dropped_dead_letter_never_counts_as_applied(
    redis: Redis, keys: Keys, dead_letters_of_all: DeadLetters
) -> None:
    dropped, kept = await die(redis, keys, 0, 2)
    assert await dead_letters_of_all.drop([dropped]) == 1
    first, second = await agreed(redis, keys, [dropped, kept])
    assert (first.state, first.reason) == ("dead", "dropped")
    assert (second.state, second.reason) == ("dead", "refused")


async def test_a_replayed_dead_letter_has_the_state_of_its_last_replay(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
) -> None:
    dead_letters = DeadLetters(redis, keys, 1)
    qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
    [entry_id] = await pushed(memory(1, 1))
    await drainer().drain(0)
    first = Receipt(0, entry_id)
    second = await dead_letters.replay(first)
    assert second is not None
    assert await agreed(redis, keys, [first]) == [JobState(first, "waiting", replay=second)]
    await drainer().drain(0)
    [found] = await agreed(redis, keys, [first])
    assert (found.state, found.reason, found.replay) == ("dead", "refused", second)

    qdrant_proxy.rules.clear()
    third = await dead_letters.replay(second, force=True)
    await drainer().drain(0)
    assert await agreed(redis, keys, [first, second]) == [
        JobState(first, "applied", replay=third),
        JobState(second, "applied", replay=third),
    ]


async def test_a_wait_for_a_replayed_dead_letter_ends_with_its_replay(
    drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, watched: Redis, keys: Keys,
    redis_proxy: RedisProxy,
) -> None:  # fmt: skip
    qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
    [entry_id] = await pushed(memory(1, 1))
    await drainer().drain(0)
    qdrant_proxy.rules.clear()
    await DeadLetters(redis, keys, 1).replay(Receipt(0, entry_id))
    waits = redis_proxy.seen(b"XREAD")
    waiting = asyncio.create_task(wait_applied(watched, keys, Receipt(0, entry_id), timeout_s=10))
    await waits.wait()
    assert not waiting.done()
    await drainer().drain(0)
    await waiting


async def test_a_wait_ends_although_redis_has_lost_its_scripts(
    redis: Redis, watched: Redis, keys: Keys, redis_proxy: RedisProxy
) -> None:
    [receipt] = await pushed_to(redis, keys, 0, 1)
    waits = redis_proxy.seen(b"XREAD")
    waiting = asyncio.create_task(wait_applied(watched, keys, receipt, timeout_s=10))
    await waits.wait()
    await redis.script_flush()
    await drain_all(redis, keys)
    await waiting


async def test_a_dead_letter_that_a_purge_made_needless_counts_as_applied(
    drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
) -> None:
    [entry_id] = await pushed(Upsert(user_id=1, point_id="mem_1_1", vector=b""))
    await drainer().drain(0)
    assert [one.state for one in await agreed(redis, keys, [Receipt(0, entry_id)])] == ["dead"]
    await pushed(Purge(user_id=1))
    await drainer().drain(0)
    assert [one.state for one in await agreed(redis, keys, [Receipt(0, entry_id)])] == ["applied"]


async def test_receipts_before_a_forgotten_drop_are_unknown(
    redis: Redis, keys: Keys, dead_letters_of_all: DeadLetters
) -> None:
    """Otherwise a job whose dead letter was dropped would look as if it had been applied."""
    [applied] = await pushed_to(redis, keys, 0, 1)
    [elsewhere] = await pushed_to(redis, keys, 1, 1)
    for partition in (0, 1):
        await drain_all(redis, keys, partition)
    first = await die(redis, keys, 0, 10)
    second = await die(redis, keys, 0, 1000)
    assert await dead_letters_of_all.drop([*second[:500], *first[:2]]) == 502
    assert {one.state for one in await agreed(redis, keys, [*first[:2], second[0]])} == {"dead"}
    assert await dead_letters_of_all.drop(second[500:]) == 500
    later = await pushed_to(redis, keys, 0, 1)
    await drain_all(redis, keys, 0)
    states = await job_states(redis, keys, [applied, *first, *second, *later, elsewhere])
    assert await redis.zcard(keys.removed(0)) == 1000
    assert [one.state for one in states[:3]] == ["unknown"] * 3
    assert {(one.state, one.reason) for one in states[3:11]} == {("dead", "refused")}
    assert {(one.state, one.reason) for one in states[11:-2]} == {("dead", "dropped")}
    assert [one.state for one in states[-2:]] == ["applied", "applied"]


async def test_a_thousand_states_take_one_round_trip(
    queue: MemoryQueue, redis: Redis, keys: Keys, redis_proxy: RedisProxy
) -> None:
    receipts = [receipt for partition in range(PARTITIONS) for receipt in await pushed_to(redis, keys, partition, 250)]
    await drain_all(redis, keys, 1)
    assert await queue.states([]) == []
    assert (await queue.states(iter(receipts[:1])))[0].state == "waiting"
    async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix) as watched:
        await watched.states(receipts[:1])
        redis_proxy.words()
        states = await watched.states(receipts)
        assert redis_proxy.words() == ["EVALSHA"] * 10
    assert [one.receipt for one in states] == receipts
    assert [one.state for one in states] == ["waiting"] * 250 + ["applied"] * 250 + ["waiting"] * 500


async def test_wrong_receipts_are_refused(queue: MemoryQueue) -> None:
    good = Receipt(0, "1-0")
    wrong: list[tuple[Any, str]] = [
        (None, "receipts"),
        ("0/1-0", "receipts"),
        (good, "receipts"),
        ([good] * 1001, "receipts"),
        ([good, "0/1-0"], "receipts[1]"),
        ([Receipt(0, "0-0")], "receipts[0]"),
    ]
    for value, field in wrong:
        with pytest.raises(InvalidJob) as refused:
            await queue.states(value)
        assert refused.value.field == field
