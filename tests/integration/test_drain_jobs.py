"""Drain jobs: a worker is woken for every partition in which entries wait, and only for those."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.drain_jobs import claim_partitions, finish_partitions, rescue_partitions
from memory_worker.wire.clock import RedisClock, redis_time_ms
from memory_worker.wire.drain_job import drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, MakeSettings, running
from tests.integration.jobs import PARTITIONS, axis
from tests.integration.leases import held_lease


async def due_ms(redis: Redis, keys: Keys, partition: int = 0) -> float | None:
    """Return when the drain job of a partition is due, if arq would find it."""
    job_id = keys.drain_job_id(partition)
    if await redis.get(keys.arq_job(job_id)) != drain_job(partition):
        return None
    return await redis.zscore(keys.drain_queue, job_id)


async def remove_job(redis: Redis, keys: Keys, partition: int = 0) -> None:
    """Remove the drain job, as arq does at its end."""
    job_id = keys.drain_job_id(partition)
    await redis.delete(keys.arq_job(job_id))
    await redis.zrem(keys.drain_queue, job_id)


async def lose_the_definition(redis: Redis, keys: Keys) -> None:
    await redis.delete(keys.arq_job(keys.drain_job_id(0)))


async def lose_the_place_in_the_queue(redis: Redis, keys: Keys) -> None:
    await redis.zrem(keys.drain_queue, keys.drain_job_id(0))


async def kill_the_worker(redis: Redis, keys: Keys) -> None:
    await redis.set(keys.arq_in_progress(keys.drain_job_id(0)), "1", px=300_000)


async def kill_the_worker_after_arq_forgot_the_job(redis: Redis, keys: Keys) -> None:
    await kill_the_worker(redis, keys)
    await remove_job(redis, keys)


class TestRescue:
    @pytest.mark.parametrize(
        "fault",
        [
            remove_job,
            lose_the_definition,
            lose_the_place_in_the_queue,
            kill_the_worker,
            kill_the_worker_after_arq_forgot_the_job,
        ],
    )
    async def test_a_lost_wakeup_is_repaired(
        self, redis: Redis, keys: Keys, fault: Callable[[Redis, Keys], Awaitable[None]]
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (2, b"b")])
        await fault(redis, keys)

        # A job that arq has marked as in progress is checked twice.
        rescued = [await rescue_partitions(redis, keys, PARTITIONS, grace_s=0) for _ in range(2)]

        assert sum(rescued) == 1
        assert await due_ms(redis, keys) == pytest.approx(await redis_time_ms(redis), abs=5_000)
        assert not await redis.exists(keys.arq_in_progress(keys.drain_job_id(0)))
        assert await rescue_partitions(redis, keys, PARTITIONS) == 0

    async def test_partitions_without_a_fault_are_not_changed(
        self, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b"), (2, b"c")])
        await remove_job(redis, keys, 1)
        await finish_partitions(redis, keys, {1: 30})
        await remove_job(redis, keys, 2)
        await held_lease(redis, keys, 2, ttl_s=30)
        await redis.set(keys.arq_in_progress(keys.drain_job_id(2)), "1")
        before = await everything()

        assert await rescue_partitions(redis, keys, PARTITIONS) == 0

        assert await everything() == before

    async def test_a_delayed_drain_job_of_a_killed_worker_stays_delayed(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        await remove_job(redis, keys)
        await finish_partitions(redis, keys, {0: 30})
        due = await due_ms(redis, keys)
        await kill_the_worker(redis, keys)
        await rescue_partitions(redis, keys, PARTITIONS)
        assert await due_ms(redis, keys) == due

    async def test_a_claim_without_a_lease_is_kept_for_the_grace_period(self, redis: Redis, keys: Keys) -> None:
        """A drain that was just claimed has no lease yet, and one that has just ended has no lease any more."""
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        await kill_the_worker(redis, keys)
        claim = keys.arq_in_progress(keys.drain_job_id(0))

        assert [await rescue_partitions(redis, keys, PARTITIONS, grace_s=60) for _ in range(3)] == [0, 0, 0]

        assert await redis.exists(claim)
        await redis.pexpire(claim, 500_000)  # another claim
        assert await rescue_partitions(redis, keys, PARTITIONS, grace_s=0) == 0
        assert await rescue_partitions(redis, keys, PARTITIONS, grace_s=0) == 1

    async def test_a_drain_job_that_is_due_after_the_longest_delay_is_due_at_once(
        self, redis: Redis, keys: Keys
    ) -> None:
        """The clock of Redis was set back by an hour."""
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b"), (2, b"c")])
        hour_ms = 3_600_000
        await redis.zadd(keys.drain_queue, {keys.drain_job_id(0): await redis_time_ms(redis) + hour_ms})
        await redis.zadd(keys.drain_queue, {keys.drain_job_id(1): await redis_time_ms(redis) + 20_000})
        await redis.delete(keys.drain_wakeup)
        assert await rescue_partitions(redis, keys, PARTITIONS, longest_delay_s=30) == 1
        assert sorted(await claimed(redis, keys)) == [[0], [2]]
        assert await redis.zscore(keys.drain_queue, keys.drain_job_id(1)) > await redis_time_ms(redis) + 10_000

    async def test_an_orphaned_claim_is_rescued_after_the_clock_was_set_back(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        await kill_the_worker(redis, keys)
        assert await rescue_partitions(redis, keys, PARTITIONS, grace_s=60) == 0
        seen = await redis.hget(keys.orphaned, keys.drain_job_id(0))
        assert seen is not None
        claim, _, since_ms = seen.decode().partition(" ")
        await redis.hset(keys.orphaned, keys.drain_job_id(0), f"{claim} {int(since_ms) + 3_600_000}")
        assert [await rescue_partitions(redis, keys, PARTITIONS, grace_s=0) for _ in range(2)] == [0, 1]

    async def test_the_count_of_waiting_jobs_is_corrected(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b"), (1, b"c")])
        await redis.hset(keys.backlog, "jobs", 17)
        await rescue_partitions(redis, keys, PARTITIONS)
        assert await redis.hget(keys.backlog, "jobs") == b"3"
        await redis.delete(keys.stream(0), keys.stream(1))
        await rescue_partitions(redis, keys, PARTITIONS)
        assert not await redis.exists(keys.backlog)

    async def test_an_empty_queue_needs_no_rescue(self, redis: Redis, keys: Keys, everything: Everything) -> None:
        assert await rescue_partitions(redis, keys, PARTITIONS) == 0
        assert await everything() == {}


async def test_no_wakeup_is_lost_while_a_drain_finishes(settings: MakeSettings, queue: MemoryQueue) -> None:
    """Each producer pushes when its last job was applied, which is when the drain finds no more entries.

    The rescue of partitions, which would repair a lost wakeup, runs only at the start.
    """
    producers, rounds = 3, 60

    async def produce(user_id: int) -> None:
        for number in range(rounds):
            receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_{number % 5}", vector=axis(number))
            await queue.wait_applied(receipt, timeout=5)

    async with running(settings(queue_partitions=1, rescue_interval_s=60), role="ingest"):
        await asyncio.gather(*(produce(user_id) for user_id in range(1, producers + 1)))


async def test_the_clock_follows_the_clock_of_redis(redis: Redis) -> None:
    clock = RedisClock()
    clock.offset_ms = 3_600_000.0
    await clock.refresh(redis)
    assert clock.now_ms() == pytest.approx(await redis_time_ms(redis), abs=1_000)


async def claimed(redis: Redis, keys: Keys, *, groups: int = 4, most_jobs: int = 1) -> list[list[int]]:
    found, foreign = await claim_partitions(
        redis, keys, max_groups=groups, batch_jobs=most_jobs, scan_limit=1000, life_s=600
    )
    assert not foreign
    return found


class TestClaim:
    """Drain jobs are claimed and finished as arq does it, in one round trip each."""

    async def test_each_drain_job_is_claimed_once(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(partition, b"a") for partition in range(3)])
        assert await claimed(redis, keys, groups=2) == [[0], [1]]
        assert await claimed(redis, keys, groups=2) == [[2]]
        assert await claimed(redis, keys, groups=2) == []
        # The jobs and the marks of their progress stay where the tools of arq expect them.
        assert await redis.zcard(keys.drain_queue) == 3
        assert 590_000 < await redis.pttl(keys.arq_in_progress(keys.drain_job_id(0))) <= 600_000

    async def test_a_finished_partition_can_be_woken_again(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        await claimed(redis, keys)
        await redis.delete(keys.stream(0))
        await finish_partitions(redis, keys, {0: 0})
        assert await redis.zcard(keys.drain_queue) == 0
        assert not await redis.exists(
            keys.arq_job(keys.drain_job_id(0)), keys.arq_in_progress(keys.drain_job_id(0)), keys.stream(0)
        )
        await push(redis, keys, PARTITIONS, [(0, b"b")])
        assert await claimed(redis, keys) == [[0]]

    async def test_entries_pushed_during_a_drain_wake_a_worker_at_its_end(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        await claimed(redis, keys)
        await redis.delete(keys.stream(0))
        await redis.delete(keys.drain_wakeup)
        await push(redis, keys, PARTITIONS, [(0, b"b")])
        assert not await redis.exists(keys.drain_wakeup)  # the running drain will find it
        await finish_partitions(redis, keys, {0: 0})
        assert await redis.llen(keys.drain_wakeup) == 1  # type: ignore[misc]
        assert await claimed(redis, keys) == [[0]]

    async def test_a_drain_ends_with_a_delay_or_without_a_new_job(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"a")])
        assert await claimed(redis, keys) == [[0], [1]]
        await finish_partitions(redis, keys, {0: 60, 1: None})
        assert await claimed(redis, keys) == []
        assert await redis.zrange(keys.drain_queue, 0, -1) == [keys.drain_job_id(0).encode()]

    async def test_jobs_of_other_programs_are_moved_to_the_queue_of_writes(self, redis: Redis, keys: Keys) -> None:
        foreign = [b"\xff", b"other:drain:1", keys.drain_job_id(0).encode() + b"x", keys.drain_job_id_prefix.encode()]
        await redis.zadd(keys.drain_queue, {job_id: score for score, job_id in enumerate(foreign)})
        await push(redis, keys, PARTITIONS, [(3, b"a")])
        assert await claim_partitions(redis, keys, max_groups=4, batch_jobs=1, scan_limit=1000, life_s=600) == (
            [[3]],
            len(foreign),
        )
        assert await redis.zrange(keys.drain_queue, 0, -1) == [keys.drain_job_id(3).encode()]
        expected = [(job_id, float(score)) for score, job_id in enumerate(foreign)]
        assert await redis.zrange(keys.writes_queue, 0, -1, withscores=True) == expected

    async def test_partitions_that_fit_into_a_batch_are_one_group(self, redis: Redis, keys: Keys) -> None:
        jobs = {0: 2, 1: 9, 2: 3, 3: 1}
        for partition, count in jobs.items():
            await push(redis, keys, PARTITIONS, [(partition, b"a")] * count)
        assert await claimed(redis, keys, groups=2, most_jobs=6) == [[0, 2, 3], [1]]

    async def test_a_full_group_is_followed_by_another(self, redis: Redis, keys: Keys) -> None:
        for partition in range(4):
            await push(redis, keys, PARTITIONS, [(partition, b"a")] * 2)
        assert await claimed(redis, keys, groups=4, most_jobs=5) == [[0, 1], [2, 3]]

    async def test_another_worker_is_woken_only_if_drain_jobs_are_left(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(partition, b"a") for partition in range(3)])
        assert await redis.llen(keys.drain_wakeup) == 1  # type: ignore[misc]
        await redis.delete(keys.drain_wakeup)  # a worker has read it
        assert await claimed(redis, keys, groups=2) == [[0], [1]]
        assert await redis.llen(keys.drain_wakeup) == 1  # type: ignore[misc]
        assert await claimed(redis, keys, groups=2) == [[2]]
        assert not await redis.exists(keys.drain_wakeup)
