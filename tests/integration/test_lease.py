"""The lease: one holder at a time, and no say for anyone else."""

from __future__ import annotations

import pytest
from arq.connections import ArqRedis

from tests.integration.conftest import connected
from tests.integration.jobs import PARTITIONS
from worker.errors import LeaseLost, QueueUnavailable
from worker.queue.keys import Keys
from worker.queue.lease import Lease, acquire_lease, release_lease, renew_lease


async def held(redis: ArqRedis, keys: Keys, partition: int = 0, *, ttl_s: float = 8) -> Lease:
    lease = await acquire_lease(redis, keys, partition, ttl_s=ttl_s, partitions=PARTITIONS)
    assert lease is not None
    return lease


async def test_one_holder_a_partition(redis: ArqRedis, keys: Keys) -> None:
    first = await held(redis, keys, 0)
    assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS) is None
    assert (await held(redis, keys, 1)).token != first.token

    await release_lease(redis, keys, first)
    await held(redis, keys, 0)


async def test_it_expires_by_itself(redis: ArqRedis, keys: Keys) -> None:
    lease = await held(redis, keys, ttl_s=3)
    assert 2_000 < await redis.pttl(keys.lease(0)) <= 3_000
    assert 2 < lease.remaining_s() <= 3


async def test_renewing_begins_its_life_anew(redis: ArqRedis, keys: Keys) -> None:
    lease = await held(redis, keys, ttl_s=8)
    lease.renewed_at -= 5
    await redis.pexpire(keys.lease(0), 3_000)

    await renew_lease(redis, keys, lease)

    assert await redis.pttl(keys.lease(0)) > 7_000
    assert lease.remaining_s() > 7


async def test_an_expired_lease_stays_expired(redis: ArqRedis, keys: Keys) -> None:
    lease = await held(redis, keys)
    await redis.pexpire(keys.lease(0), 0)
    with pytest.raises(LeaseLost):
        await renew_lease(redis, keys, lease)
    assert not await redis.exists(keys.lease(0))


async def test_a_successor_is_left_alone(redis: ArqRedis, keys: Keys) -> None:
    lost = await held(redis, keys)
    await redis.delete(keys.lease(0))
    successor = await held(redis, keys, ttl_s=2)

    with pytest.raises(LeaseLost):
        await renew_lease(redis, keys, lost)
    await release_lease(redis, keys, lost)

    assert await redis.get(keys.lease(0)) == successor.token.encode()
    assert await redis.pttl(keys.lease(0)) <= 2_000


async def test_a_redis_that_is_gone_is_not_a_lost_lease(keys: Keys) -> None:
    async with connected("redis://127.0.0.1:1", timeout_s=1) as redis:
        with pytest.raises(QueueUnavailable):
            await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
        with pytest.raises(QueueUnavailable):
            await renew_lease(redis, keys, Lease(0, 8))
