"""The state of all partitions takes one round trip."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION
from memory_worker.queue.held import Held, record_held
from memory_worker.queue.log import DeadEntry, JobLog
from memory_worker.queue.state import PartitionState, partition_states
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import commit, held_lease, reading
from tests.integration.proxies import RedisProxy


def idle(partition: int, *, dead: int = 0) -> PartitionState:
    return PartitionState(partition=partition, waiting=0, oldest_pushed_s=None, version=None, lease_s=None, dead=dead)


async def test_new_partitions_are_empty(redis: Redis, keys: Keys) -> None:
    assert await partition_states(redis, keys, PARTITIONS) == [idle(partition) for partition in range(PARTITIONS)]


async def test_states_contain_waiting_jobs_leases_and_dead_letters(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(1, b"a"), (1, b"b"), (2, b"c")])
    await push(redis, keys, PARTITIONS, [(3, b"d")], version=CONTRACT_VERSION + 1)
    await held_lease(redis, keys, 1)
    other = await held_lease(redis, keys, 2)
    log = JobLog(redis, keys, reading(keys))
    batch = (await log.read(other, max_jobs=1, max_bytes=1)).entries
    await commit(log, other, batch, [DeadEntry(entry=batch[0], reason="invalid", detail="")])
    await redis.delete(keys.lease(2))

    nothing, drained, dead, newer = await partition_states(redis, keys, PARTITIONS)

    assert nothing == idle(0)
    assert (drained.waiting, drained.version, drained.dead) == (2, CONTRACT_VERSION, 0)
    assert drained.oldest_pushed_s == pytest.approx(time.time(), abs=60)
    assert drained.lease_s == pytest.approx(8, abs=2)
    assert dead == idle(2, dead=1)
    assert (newer.waiting, newer.version, newer.lease_s) == (1, CONTRACT_VERSION + 1, None)


async def test_an_entry_without_a_version_has_version_zero(redis: Redis, keys: Keys) -> None:
    await redis.xadd(keys.stream(0), {"j": "a"})
    assert (await partition_states(redis, keys, 1))[0].version == 0


async def test_a_record_counts_while_its_entry_is_the_head(redis: Redis, keys: Keys) -> None:
    first, _ = await push(redis, keys, 3, [(2, b"a"), (2, b"b")])
    await record_held(redis, keys, 2, Held(first.entry_id, "kind 'note'"))
    assert [state.needs for state in await partition_states(redis, keys, 3)] == [None, None, "kind 'note'"]
    await redis.xdel(keys.stream(2), first.entry_id)
    assert [state.needs for state in await partition_states(redis, keys, 3)] == [None, None, None]


async def test_states_of_many_partitions_take_one_round_trip(
    watched: Redis, redis_proxy: RedisProxy, keys: Keys
) -> None:
    await partition_states(watched, keys, 1)
    redis_proxy.words()
    await partition_states(watched, keys, 256)
    assert redis_proxy.words() == ["EVALSHA"]
