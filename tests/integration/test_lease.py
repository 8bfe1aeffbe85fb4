"""The lease of a partition: it has one holder at a time, and nothing else can change it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from memory_worker.contract.errors import LeaseLost, PartitionMismatch, QueueUnavailable
from memory_worker.queue.lease import Lease, renew_leases
from memory_worker.queue.log import Head, JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, connected
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import acquire_lease, commit, die, give_back, held_lease, open_head, reading


async def opened(redis: Redis, keys: Keys, partition: int = 0) -> Head:
    head = await open_head(redis, keys, Lease(partition, 8), partitions=PARTITIONS, most=10)
    assert head is not None
    return head


async def test_a_partition_has_one_holder(redis: Redis, keys: Keys) -> None:
    first = await held_lease(redis, keys, 0)
    assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS) is None
    assert (await held_lease(redis, keys, 1)).token != first.token

    await give_back(redis, keys, first)
    await held_lease(redis, keys, 0)


async def test_a_lease_expires_by_itself(redis: Redis, keys: Keys) -> None:
    lease = await held_lease(redis, keys, ttl_s=3)
    assert 2_000 < await redis.pttl(keys.lease(0)) <= 3_000
    assert lease.lasts(2)
    assert not lease.lasts(3.01)


async def test_a_renewed_lease_has_its_full_time_again(redis: Redis, keys: Keys) -> None:
    lease = await held_lease(redis, keys)
    lease.until -= 5
    await redis.pexpire(keys.lease(0), 3_000)

    await renew_leases(redis, keys, [lease])

    assert await redis.pttl(keys.lease(0)) > 7_000
    assert lease.lasts(7)


async def test_an_expired_lease_cannot_be_renewed(redis: Redis, keys: Keys) -> None:
    lease = await held_lease(redis, keys)
    await redis.pexpire(keys.lease(0), 0)
    with pytest.raises(LeaseLost):
        await renew_leases(redis, keys, [lease])
    assert not await redis.exists(keys.lease(0))


async def test_a_lost_lease_does_not_change_that_of_its_successor(redis: Redis, keys: Keys) -> None:
    lost = await held_lease(redis, keys)
    await redis.delete(keys.lease(0))
    successor = await held_lease(redis, keys, ttl_s=2)

    with pytest.raises(LeaseLost):
        await renew_leases(redis, keys, [lost])
    for settle_s in (0, 0.001, 60):
        await give_back(redis, keys, lost, settle_s=settle_s)
        assert await redis.get(keys.lease(0)) == successor.token.encode()
        assert 500 < await redis.pttl(keys.lease(0)) <= 2_000


async def test_a_drain_with_another_number_of_partitions_gets_no_lease(
    redis: Redis, keys: Keys, everything: Everything
) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
    before = await everything()
    for partitions in (PARTITIONS - 1, PARTITIONS + 1):
        with pytest.raises(PartitionMismatch) as mismatch:
            await acquire_lease(redis, keys, 0, ttl_s=8, partitions=partitions)
        assert mismatch.value.actual == PARTITIONS
    assert await everything() == before
    await held_lease(redis, keys)


async def test_a_holder_keeps_its_lease_if_the_number_of_partitions_changes(redis: Redis, keys: Keys) -> None:
    """It can finish the jobs that it has read, but no other drain gets the lease."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS))
    lease = await held_lease(redis, keys)
    await redis.hset(keys.meta, "partitions", 2 * PARTITIONS)
    await renew_leases(redis, keys, [lease])
    await give_back(redis, keys, lease)
    with pytest.raises(PartitionMismatch):
        await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)


class TestOrphaned:
    """The next drain learns that the one before it did not end."""

    async def test_a_partition_is_orphaned_after_a_drain_that_died_with_a_batch(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        assert not (await opened(redis, keys)).was_orphaned
        await redis.delete(keys.lease(0))  # as if it had expired
        assert (await opened(redis, keys)).was_orphaned
        assert not (await opened(redis, keys, 1)).was_orphaned  # another partition

    async def test_a_partition_is_not_orphaned_after_a_drain_that_ended(self, redis: Redis, keys: Keys) -> None:
        log = JobLog(redis, keys, reading(keys))
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        ended = await held_lease(redis, keys)
        batch = (await log.read(ended, max_jobs=1, max_bytes=1000)).entries
        await commit(log, ended, batch)
        await log.read(ended, max_jobs=1, max_bytes=1000)
        await give_back(redis, keys, ended)
        assert not (await opened(redis, keys)).was_orphaned

    async def test_a_partition_is_not_orphaned_after_a_drain_that_lost_its_lease_and_ended(
        self, redis: Redis, keys: Keys
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        slow = await held_lease(redis, keys)
        await JobLog(redis, keys, reading(keys)).read(slow, max_jobs=10, max_bytes=1000)
        await redis.delete(keys.lease(0))
        await give_back(redis, keys, slow)
        assert not (await opened(redis, keys)).was_orphaned


class TestCrashed:
    """A crash is counted only if its process has died."""

    @staticmethod
    async def tried(redis: Redis, keys: Keys, process: str) -> Head:
        """Read like a process that does not end its drain."""
        await redis.delete(keys.lease(0))
        head = await open_head(redis, keys, Lease(0, 8), partitions=PARTITIONS, most=10, process=process)
        assert head is not None
        return head

    async def test_an_entry_is_not_in_quarantine_while_its_processes_live(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        for process in ["one", "other", "third", "fourth"] * 5:
            head = await self.tried(redis, keys, process)
            assert not head.needs_quarantine
            assert [entry.crashed for entry in head.entries] == [False, False]

    async def test_a_process_that_fails_repeatedly_is_not_a_crash(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        for _ in range(10):
            assert not (await self.tried(redis, keys, "same")).needs_quarantine
            await die(redis, keys, "same")  # its sign of life has expired
        head = await self.tried(redis, keys, "another")
        assert not head.needs_quarantine

    async def test_an_entry_is_in_quarantine_after_three_crashes_and_crashed_after_two_more(
        self, redis: Redis, keys: Keys
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
        seen = []
        for number in range(6):
            head = await self.tried(redis, keys, f"process {number}".replace(" ", "-"))
            seen.append((len(head.entries), head.needs_quarantine, head.entries[0].crashed))
            await die(redis, keys, f"process-{number}")
        assert seen == [(2, False, False)] * 3 + [(1, True, False)] * 2 + [(1, True, True)]

    async def test_a_process_that_returns_no_longer_counts_as_a_crash(self, redis: Redis, keys: Keys) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a")])
        for number in range(3):
            await self.tried(redis, keys, f"process-{number}")
            await die(redis, keys, f"process-{number}")
        await redis.set(f"{keys.process_prefix}process-1", "1")
        assert not (await self.tried(redis, keys, "next")).needs_quarantine


async def test_without_a_redis_the_lease_is_not_lost_but_unavailable(keys: Keys) -> None:
    async with connected("redis://127.0.0.1:1", timeout_s=1) as redis:
        with pytest.raises(QueueUnavailable):
            await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
        with pytest.raises(QueueUnavailable):
            await renew_leases(redis, keys, [Lease(0, 8)])
