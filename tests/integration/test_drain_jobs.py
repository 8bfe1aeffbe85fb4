"""Drain jobs: a worker is woken for every partition in which entries wait, and only for those."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.drain_jobs import (
    ClaimedGroup,
    OpenOptions,
    claim_partitions,
    finish_partitions,
    rescue_partitions,
)
from memory_worker.queue.lease import LeaseState
from memory_worker.queue.log import BatchCommit, JobLog
from memory_worker.wire.clock import RedisClock, redis_time_ms
from memory_worker.wire.drain_job import drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, MakeDrainer, MakeSettings, running
from tests.integration.jobs import PARTITIONS, axis
from tests.integration.leases import held_lease, reading


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
        redis, keys, PARTITIONS, max_groups=groups, batch_jobs=most_jobs, scan_limit=1000, life_s=600
    )
    assert not foreign
    return [list(group.partitions) for group in found]


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
        found, moved = await claim_partitions(
            redis, keys, PARTITIONS, max_groups=4, batch_jobs=1, scan_limit=1000, life_s=600
        )
        assert ([list(group.partitions) for group in found], moved) == ([[3]], len(foreign))
        assert await redis.zrange(keys.drain_queue, 0, -1) == [keys.drain_job_id(3).encode()]
        expected = [(job_id, float(score)) for score, job_id in enumerate(foreign)]
        assert await redis.zrange(keys.writes_queue, 0, -1, withscores=True) == expected

    async def test_partitions_that_fit_into_a_batch_are_one_group(self, redis: Redis, keys: Keys) -> None:
        jobs = {0: 2, 1: 9, 2: 3, 3: 1}
        for partition, count in jobs.items():
            await push(redis, keys, PARTITIONS, [(partition, b"a")] * count)
        assert await claimed(redis, keys, groups=2, most_jobs=6) == [[0, 2, 3], [1]]

    @pytest.mark.parametrize(("age_ms", "first"), [(900, 2), (1100, PARTITIONS + 1)])
    async def test_an_overflow_stream_counts_as_a_second_younger(
        self, redis: Redis, keys: Keys, age_ms: int, first: int
    ) -> None:
        due = await redis_time_ms(redis) - 5000
        scores = {PARTITIONS + 1: due - age_ms, 2: due}
        await redis.zadd(keys.drain_queue, {keys.drain_job_id(number): score for number, score in scores.items()})
        (group,) = await claimed(redis, keys)
        assert group == sorted(scores, key=lambda number: number != first)

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


class TestOpenedWhenClaimed:
    """Partitions that fit into one batch are opened in the same step in which they are claimed."""

    async def claimed(
        self, redis: Redis, keys: Keys, *, batch_jobs: int = 3, partitions: int = PARTITIONS, max_bytes: int = 1_000_000
    ) -> list[ClaimedGroup]:
        opening = OpenOptions(reading(keys), 8.0, max_bytes)
        found, _ = await claim_partitions(
            redis, keys, partitions, max_groups=4, batch_jobs=batch_jobs, scan_limit=1000, life_s=600, opening=opening
        )
        return found

    def bodies(self, group: ClaimedGroup) -> list[list[bytes] | None]:
        return [head and [entry.body for entry in head.entries] for _, head in group.opened]

    async def test_as_many_partitions_are_opened_as_fit_into_one_batch(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b"), (2, b"c"), (2, b"d"), (3, b"e")])
        first, second = await self.claimed(redis, keys)
        assert (first.partitions, self.bodies(first)) == ([0, 1, 3], [[b"a"], [b"b"], [b"e"]])
        assert (second.partitions, self.bodies(second)) == ([2], [])
        for lease, _ in first.opened:
            assert await redis.get(keys.lease(lease.partition)) == lease.token.encode()
            assert lease.state is LeaseState.HELD
            assert lease.lasts(7)
        assert not await redis.exists(keys.lease(2))

    async def test_the_bytes_of_a_batch_are_limited(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"aa"), (0, b"bb"), (0, b"cc")])
        (group,) = await self.claimed(redis, keys, max_bytes=5)
        assert self.bodies(group) == [[b"aa", b"bb"]]

    async def test_a_partition_that_another_drain_holds_is_not_opened(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b")])
        held = await held_lease(redis, keys, 0)
        (group,) = await self.claimed(redis, keys)
        assert self.bodies(group) == [None, [b"b"]]
        assert [lease.state for lease, _ in group.opened] == [LeaseState.ENDED, LeaseState.HELD]
        assert await redis.get(keys.lease(0)) == held.token.encode()

    async def test_with_another_number_of_partitions_nothing_is_opened(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        (group,) = await self.claimed(redis, keys, partitions=PARTITIONS + 1)
        assert group == ([0], [])

    async def test_a_key_of_a_wrong_type_leaves_no_lease_of_its_group(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b")])
        await redis.set(keys.attempts(1), "by hand")
        (group,) = await self.claimed(redis, keys)
        assert group == ([0, 1], [])
        assert not await redis.exists(keys.lease(0), keys.lease(1))

    async def test_the_end_of_a_drain_leaves_a_partition_that_was_claimed_again(
        self, redis: Redis, keys: Keys, drainer: MakeDrainer
    ) -> None:
        """The commit ends the drain job, so a partition can be claimed and opened again before its drain has ended."""
        context = drainer(partitions=PARTITIONS)._context
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        (first,) = await self.claimed(redis, keys)
        async with AsyncExitStack() as drain:
            held = await drain.enter_async_context(context.holding(first.opened))
            async with context.leased([0], held, in_quarantine=False) as ((lease, _),):
                await redis.delete(keys.lease(0), keys.arq_in_progress(keys.drain_job_id(0)))
                lease.state = LeaseState.ENDED
                (second,) = await self.claimed(redis, keys)
                async with context.holding(second.opened) as held:
                    await drain.aclose()
                    async with context.leased([0], held, in_quarantine=False) as opened:
                        assert opened == second.opened

    async def test_a_drain_releases_what_it_may_not_drain_any_more(
        self, redis: Redis, keys: Keys, drainer: MakeDrainer
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b")])
        (group,) = await self.claimed(redis, keys)
        draining = drainer(partitions=PARTITIONS)
        async with draining._context.quarantine.hold(exclusive=True):
            assert draining.opening() is None
            waiting = asyncio.create_task(draining.drain_group(group.partitions, group.opened))
            while await redis.exists(keys.lease(0), keys.lease(1)):  # noqa: ASYNC110  # nothing else shows it
                await asyncio.sleep(0.01)
            assert not waiting.done()
        assert {result.ending for result in (await waiting).values()} == {"empty"}  # after it was opened again


async def test_the_last_commit_ends_the_drain_job(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"a"), (1, b"b"), (1, b"c")])
    await claimed(redis, keys, groups=2)
    await redis.delete(keys.drain_wakeup)
    leases = [await held_lease(redis, keys, partition) for partition in (0, 1)]
    log = JobLog(redis, keys, reading(keys))
    commits = [
        BatchCommit(lease=lease, batch=(await log.read(lease, max_jobs=1, max_bytes=1_000)).entries) for lease in leases
    ]
    assert await log.commit_all(commits, release=True) == [0, 1]
    assert await due_ms(redis, keys, 0) is None
    assert not await redis.exists(*(keys.arq_in_progress(keys.drain_job_id(partition)) for partition in (0, 1)))
    assert await claimed(redis, keys) == [[1]]  # it has another entry, so it has woken a worker
