"""A primary with a lagging replica: a confirmed push survives a failover, and no other push is confirmed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import encode_job
from memory_worker.contract.errors import NotReplicated, QueueUnavailable
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.request_gate import RequestGate
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.ingest.writer import LeasedWriter
from memory_worker.queue.partitions import publish_meta
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Contents, connected
from tests.integration.jobs import LIMITS, axis, memory
from tests.integration.leases import held_lease
from tests.servers import RedisServer

KEYS = Keys()


@pytest.fixture
async def redis(own_redis: RedisServer) -> AsyncIterator[Redis]:
    """Connections to the primary."""
    async with connected(own_redis.url) as opened:
        yield opened


async def pushed(redis: Redis, *numbers: int, min_replicas: int = 1) -> None:
    for number in numbers:
        await push(redis, KEYS, 1, [(0, encode_job(memory(1, number)))], min_replicas=min_replicas)


async def test_a_push_returns_once_the_replica_has_it(redis: Redis, replica: RedisServer) -> None:
    await pushed(redis, 1)
    async with connected(replica.url) as copy:
        assert await copy.xlen(KEYS.stream(0)) == 1


async def test_a_push_that_no_replica_confirms_is_an_error(redis: Redis, replica: RedisServer) -> None:
    replica.freeze()
    with pytest.raises(NotReplicated, match="only 0 of 1 replicas"):
        await pushed(redis, 1)
    replica.thaw()
    await pushed(redis, 1)  # a second push works too
    assert await redis.xlen(KEYS.stream(0)) == 2


async def test_the_client_waits_for_as_many_replicas_as_the_workers_publish(
    redis: Redis, own_redis: RedisServer, replica: RedisServer
) -> None:
    await publish_meta(redis, KEYS, QueueMeta(partitions=1, limits=LIMITS, min_replicas=1))
    async with MemoryQueue.connect(own_redis.url) as queue:
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        replica.freeze()
        with pytest.raises(QueueUnavailable, match="replicas"):
            await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))


async def test_a_job_that_a_failover_could_lose_is_not_applied(
    redis: Redis, replica: RedisServer, store: VectorStore, engine: Contents, shape: CollectionShape
) -> None:
    options = DrainOptions(partitions=1, limits=LIMITS, min_replicas=1, retry=RetryPolicy(0.1, 0.1))
    drainer = Drainer(redis, KEYS, store, options)
    replica.freeze()
    await pushed(redis, 1, min_replicas=0)
    result = await drainer.drain(0)
    assert (result.ending, result.jobs) == ("outage", 0)
    assert await redis.xlen(KEYS.stream(0)) == 1
    replica.thaw()
    assert (await drainer.drain(0)).jobs == 1
    assert engine.points(shape.base("memory")) == {"mem_1_1"}


async def test_all_leases_last_on_the_replica_for_as_long_as_the_drain_counts_on_them(
    redis: Redis, replica: RedisServer, store: VectorStore, engine: Contents, shape: CollectionShape
) -> None:
    """Otherwise, after a failover another drain could begin while a request of this one is on its way."""
    leases = [await held_lease(redis, KEYS, partition, partitions=2) for partition in (0, 1)]
    for lease in leases:
        await redis.pexpire(KEYS.lease(lease.partition), 2_000)  # as if a failover had lost a renewal
    writer = LeasedWriter(
        redis, KEYS, store, DrainOptions(partitions=2, limits=LIMITS, min_replicas=1), RequestGate(0, lambda: False)
    )
    await writer.write(leases, [memory(1, 1)])
    async with connected(replica.url) as copy:
        assert min([await copy.pttl(KEYS.lease(lease.partition)) for lease in leases]) > 6_000
    replica.freeze()
    with pytest.raises(NotReplicated):
        await writer.write(leases, [memory(1, 2)])
    assert engine.points(shape.base("memory")) == {"mem_1_1"}


async def test_a_repeated_push_waits_for_the_replica_too(own_redis: RedisServer, replica: RedisServer) -> None:
    """Its first copy was stored, and its connection ended. On the new connection WAIT must not pass at once."""

    async def push_again() -> None:
        async with connected(own_redis.url) as redis:
            await push(redis, KEYS, 1, [(0, encode_job(memory(1, 1)))], token="same", min_replicas=1)

    replica.freeze()
    for _ in range(2):
        with pytest.raises(NotReplicated):
            await push_again()
    replica.thaw()
    await push_again()
    async with connected(replica.url) as copy:
        assert await copy.xlen(KEYS.stream(0)) == 1


async def test_a_confirmed_push_survives_the_promotion_of_a_lagging_replica(
    redis: Redis, own_redis: RedisServer, replica: RedisServer
) -> None:
    await pushed(redis, 1, 2, 3)
    replica.freeze()
    with pytest.raises(NotReplicated):
        await pushed(redis, 4)
    own_redis.kill()
    replica.thaw()
    async with connected(replica.url) as promoted:
        await promoted.execute_command("REPLICAOF", "NO", "ONE")
        assert await promoted.xlen(KEYS.stream(0)) >= 3
        await pushed(promoted, 4, min_replicas=0)
        assert await promoted.xlen(KEYS.stream(0)) >= 4
