"""A primary and a replica that lags: what is confirmed survives a failover, and nothing else is confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import encode_job
from memory_worker.contract.errors import NotReplicated, QueueUnavailable
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.partitions import publish_meta
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.chaos.servers import RedisServer
from tests.integration.conftest import Contents, connected
from tests.integration.jobs import LIMITS, axis, memory

KEYS = Keys()


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "primary")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def replica(primary: RedisServer, tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path / "replica")
    server.start()
    async with connected(server.url) as redis, connected(primary.url) as leader:
        await leader.config_set("repl-diskless-sync-delay", 0)
        await redis.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        async with asyncio.timeout(20):
            # Asked again and again: the first full copy takes its time.
            while await leader.execute_command("WAIT", 1, 500) < 1:
                await leader.set("tick", "1")
    yield server
    server.kill()


@pytest.fixture
async def redis(primary: RedisServer) -> AsyncIterator[Redis]:
    async with connected(primary.url) as opened:
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
    await pushed(redis, 1)  # once more is harmless
    assert await redis.xlen(KEYS.stream(0)) == 2


async def test_the_client_keeps_to_what_the_workers_publish(
    redis: Redis, primary: RedisServer, replica: RedisServer
) -> None:
    await publish_meta(redis, KEYS, QueueMeta(partitions=1, limits=LIMITS, min_replicas=1))
    async with MemoryQueue.connect(primary.url) as queue:
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        replica.freeze()
        with pytest.raises(QueueUnavailable, match="replicas"):
            await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))


async def test_nothing_is_applied_that_a_failover_could_take_back(
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
    assert engine.points(shape.memories) == {"mem_1_1"}


async def test_what_was_confirmed_survives_the_promotion_of_a_replica_that_lagged(
    redis: Redis, primary: RedisServer, replica: RedisServer
) -> None:
    await pushed(redis, 1, 2, 3)
    replica.freeze()
    with pytest.raises(NotReplicated):
        await pushed(redis, 4)
    primary.kill()
    replica.thaw()
    async with connected(replica.url) as promoted:
        await promoted.execute_command("REPLICAOF", "NO", "ONE")
        assert await promoted.xlen(KEYS.stream(0)) >= 3
        await pushed(promoted, 4, min_replicas=0)
        assert await promoted.xlen(KEYS.stream(0)) >= 4
