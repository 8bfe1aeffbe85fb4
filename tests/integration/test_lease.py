"""The lease: one holder at a time, and no say for anyone else."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from memory_worker.contract.errors import LeaseLost, PartitionMismatch, QueueUnavailable
from memory_worker.queue.lease import Lease, renew_lease
from memory_worker.queue.log import Head, JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, connected
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import acquire_lease, commit, die, give_back, open_head, reading


async def held(redis: Redis, keys: Keys, partition: int = 0, *, ttl_s: float = 8) -> Lease:
    lease = await acquire_lease(redis, keys, partition, ttl_s=ttl_s, partitions=PARTITIONS)
    assert lease is not None
    return lease


async def opened(redis: Redis, keys: Keys, partition: int = 0) -> Head:
    head = await open_head(redis, keys, Lease(partition, 8), partitions=PARTITIONS, most=10)
    assert head is not None
    return head


async def test_one_holder_a_partition(redis: Redis, keys: Keys) -> None:
    first = await held(redis, keys, 0)
    assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS) is None
    assert (await held(redis, keys, 1)).token != first.token

    await give_back(redis, keys, first)
    await held(redis, keys, 0)


async def test_it_expires_by_itself(redis: Redis, keys: Keys) -> None:
    lease = await held(redis, keys, ttl_s=3)
    assert 2_000 < await redis.pttl(keys.lease(0)) <= 3_000
    assert lease.lasts(2)
    assert not lease.lasts(3.01)


async def test_renewing_begins_its_life_anew(redis: Redis, keys: Keys) -> None:
    lease = await held(redis, keys, ttl_s=8)
    lease.until -= 5
    await redis.pexpire(keys.lease(0), 3_000)

    await renew_lease(redis, keys, lease)

    assert await redis.pttl(keys.lease(0)) > 7_000
    assert lease.lasts(7)


async def test_an_expired_lease_stays_expired(redis: Redis, keys: Keys) -> None:
    lease = await held(redis, keys)
    await redis.pexpire(keys.lease(0), 0)
    with pytest.raises(LeaseLost):
        await renew_lease(redis, keys, lease)
    assert not await redis.exists(keys.lease(0))


async def test_a_successor_is_left_alone(redis: Redis, keys: Keys) -> None:
    lost = await held(redis, keys)
    await redis.delete(keys.lease(0))
    successor = await held(redis, keys, ttl_s=2)

    with pytest.raises(LeaseLost):
        await renew_lease(redis, keys, lost)
    await give_back(redis, keys, lost)

    assert await redis.get(keys.lease(0)) == successor.token.encode()
    assert await redis.pttl(keys.lease(0)) <= 2_000


async def test_drains_of_another_number_of_partitions_get_none(
    redis: Redis, keys: Keys, everything: Everything
) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
    before = await everything()
    for partitions in (PARTITIONS - 1, PARTITIONS + 1):
        with pytest.raises(PartitionMismatch) as mismatch:
            await acquire_lease(redis, keys, 0, ttl_s=8, partitions=partitions)
        assert mismatch.value.actual == PARTITIONS
    assert await everything() == before
    await held(redis, keys)


async def test_where_the_number_changes_the_holder_keeps_it_and_nobody_follows(redis: Redis, keys: Keys) -> None:
    """Whoever changes it by hand: jobs that were read are finished, and no others are begun."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
    lease = await held(redis, keys)
    await redis.hset(keys.meta, "partitions", 2 * PARTITIONS)
    await renew_lease(redis, keys, lease)
    await give_back(redis, keys, lease)
    with pytest.raises(PartitionMismatch):
        await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)


class TestOrphaned:
    """The next drain is told when the one before never ended."""

    async def test_of_a_drain_that_died_with_a_batch(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        assert not (await opened(redis, keys)).was_orphaned
        await redis.delete(keys.lease(0))  # as if it had expired
        assert (await opened(redis, keys)).was_orphaned
        assert not (await opened(redis, keys, 1)).was_orphaned  # another partition has nothing to do with it

    async def test_not_of_one_that_gave_its_lease_back(self, redis: Redis, keys: Keys) -> None:
        log = JobLog(redis, keys, reading(keys))
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        ended = await held(redis, keys)
        batch = await log.read(ended, max_jobs=1, max_bytes=1000)
        await commit(log, ended, batch)
        await log.read(ended, max_jobs=1, max_bytes=1000)
        await give_back(redis, keys, ended)
        assert not (await opened(redis, keys)).was_orphaned

    async def test_not_of_one_that_lost_its_lease_and_then_ended(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        slow = await held(redis, keys)
        await JobLog(redis, keys, reading(keys)).read(slow, max_jobs=10, max_bytes=1000)
        await redis.delete(keys.lease(0))
        await give_back(redis, keys, slow)
        assert not (await opened(redis, keys)).was_orphaned


class TestCrashed:
    """A death is a process that is gone."""

    @staticmethod
    async def tried(redis: Redis, keys: Keys, process: str) -> Head:
        """Be a process that reads and does not end its drain: Redis, or the process itself, is away."""
        await redis.delete(keys.lease(0))
        head = await open_head(redis, keys, Lease(0, 8), partitions=PARTITIONS, most=10, process=process)
        assert head is not None
        return head

    async def test_while_its_processes_live_no_entry_is_suspect(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        for process in ["one", "other", "third", "fourth"] * 5:
            head = await self.tried(redis, keys, process)
            assert not head.needs_quarantine
            assert [entry.crashed for entry in head.entries] == [False, False]

    async def test_one_process_that_fails_ever_again_is_no_death(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        for _ in range(10):
            assert not (await self.tried(redis, keys, "same")).needs_quarantine
            await die(redis, keys, "same")  # it was away for so long that its sign of life is gone
        head = await self.tried(redis, keys, "another")
        assert not head.needs_quarantine

    async def test_three_that_are_gone_make_it_suspect_and_two_more_dead(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        seen = []
        for number in range(6):
            head = await self.tried(redis, keys, f"process {number}".replace(" ", "-"))
            seen.append((len(head.entries), head.needs_quarantine, head.entries[0].crashed))
            await die(redis, keys, f"process-{number}")
        assert seen == [(2, False, False)] * 3 + [(1, True, False)] * 2 + [(1, True, True)]

    async def test_one_that_comes_back_is_no_death_any_more(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        for number in range(3):
            await self.tried(redis, keys, f"process-{number}")
            await die(redis, keys, f"process-{number}")
        await redis.set(f"{keys.process_prefix}process-1", "1")
        assert not (await self.tried(redis, keys, "next")).needs_quarantine


async def test_given_back_to_settle_it_is_nobodys_for_a_while(redis: Redis, keys: Keys) -> None:
    lease = await held(redis, keys)
    await give_back(redis, keys, lease, settle_s=2)
    assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS) is None
    assert 0 < await redis.pttl(keys.lease(0)) <= 2_000


async def test_a_successor_does_not_settle_for_another(redis: Redis, keys: Keys) -> None:
    lost = await held(redis, keys)
    await redis.delete(keys.lease(0))
    successor = await held(redis, keys, ttl_s=8)
    await give_back(redis, keys, lost, settle_s=0.001)
    assert await redis.get(keys.lease(0)) == successor.token.encode()
    assert await redis.pttl(keys.lease(0)) > 2_000


async def test_a_redis_that_is_gone_is_not_a_lost_lease(keys: Keys) -> None:
    async with connected("redis://127.0.0.1:1", timeout_s=1) as redis:
        with pytest.raises(QueueUnavailable):
            await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
        with pytest.raises(QueueUnavailable):
            await renew_lease(redis, keys, Lease(0, 8))
