"""A replica is promoted behind one address: no client stays connected to the old primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.contract.errors import QueueUnavailable
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.scripts import scripts
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.proxies import RedisProxy
from tests.servers import RedisServer

KEYS = Keys()
IDLE = 8


@pytest.fixture
async def address(own_redis: RedisServer, replica: RedisServer) -> AsyncIterator[RedisProxy]:
    """The address of the pair, which leads to the primary."""
    async with connected(own_redis.url) as redis:
        await publish_meta(redis, KEYS, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
    async with RedisProxy(own_redis.url) as proxy:
        yield proxy


async def promote(primary: RedisServer, replica: RedisServer, address: RedisProxy) -> None:
    """Exchange the roles of primary and replica, and let the address lead to the new primary."""
    async with connected(primary.url) as old, connected(replica.url) as new:
        await new.execute_command("REPLICAOF", "NO", "ONE")
        address.target = replica.url
        await old.execute_command("REPLICAOF", "127.0.0.1", replica.port)


@asynccontextmanager
async def until_blocked(primary: RedisServer) -> AsyncIterator[None]:
    """Wait until a call that begins in the block waits for its reply."""
    async with connected(primary.url) as redis:
        await scripts.load(redis, "call")
        yield
        while not (await redis.info("clients"))["blocked_clients"]:
            pass


async def open_connections(queue: MemoryQueue) -> None:
    """Open several idle connections of each kind."""
    await asyncio.gather(
        *(queue.delete(user_id=user, point_id=f"mem_{user}_1") for user in range(1, 64 * IDLE)),
        *(queue._producer.open().redis.ping() for _ in range(IDLE)),
        *(queue._producer.open().blocking.ping() for _ in range(IDLE)),
    )


async def test_pushes_go_to_the_new_primary_after_one_error(
    own_redis: RedisServer, replica: RedisServer, address: RedisProxy
) -> None:
    async with MemoryQueue.connect(address.url) as queue:
        await open_connections(queue)
        await promote(own_redis, replica, address)
        with pytest.raises(QueueUnavailable, match=r"(?i)read.only"):
            await queue.delete(user_id=1, point_id="mem_1_1")
        receipts = [await queue.delete(user_id=user, point_id=f"mem_{user}_1") for user in range(1, 20)]
    async with connected(replica.url) as new:
        for receipt in receipts:
            assert await new.xrange(KEYS.stream(receipt.partition), receipt.entry_id, receipt.entry_id)


async def test_reads_go_to_the_new_primary_too(
    own_redis: RedisServer, replica: RedisServer, address: RedisProxy
) -> None:
    """An error on a connection for pushes also closes the idle connections for reads."""
    async with MemoryQueue.connect(address.url) as queue:
        await open_connections(queue)
        await promote(own_redis, replica, address)
        with pytest.raises(QueueUnavailable):
            await queue.delete(user_id=1, point_id="mem_1_1")
        blocking = queue._producer.open().blocking
        roles = [await blocking.execute_command("ROLE") for _ in range(IDLE)]
        assert {role[0] for role in roles} == {b"master"}


async def test_a_search_that_waits_at_the_old_primary_fails(
    own_redis: RedisServer, replica: RedisServer, address: RedisProxy
) -> None:
    """A Redis that becomes a replica ends blocking commands with UNBLOCKED."""
    async with MemoryQueue.connect(address.url) as queue:
        async with until_blocked(own_redis):
            searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=SIGNAL_TIMEOUT_S))
        await promote(own_redis, replica, address)
        with pytest.raises(QueueUnavailable, match="UNBLOCKED"):
            await searching


async def test_pushes_go_to_the_new_primary_if_the_old_one_hangs(
    own_redis: RedisServer, replica: RedisServer, address: RedisProxy
) -> None:
    """A request without an answer closes the connections, too."""
    async with MemoryQueue.connect(address.url, timeout_s=2) as queue:
        await open_connections(queue)
        own_redis.freeze()
        async with connected(replica.url) as new:
            await new.execute_command("REPLICAOF", "NO", "ONE")
        address.target = replica.url
        with pytest.raises(QueueUnavailable):
            await queue.delete(user_id=1, point_id="mem_1_1")
        receipt = await queue.delete(user_id=1, point_id="mem_1_1")
        assert isinstance(receipt, Receipt)


async def test_connections_to_a_replica_without_its_primary_are_closed(
    own_redis: RedisServer, redis_url: str, keys: Keys
) -> None:
    async with (
        connected(own_redis.url) as redis,
        RedisProxy(own_redis.url) as address,
        connected(address.url) as through,
    ):
        await through.ping()
        await redis.config_set("replica-serve-stale-data", "no")
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        address.target = redis_url
        with pytest.raises(QueueUnavailable, match="MASTERDOWN"):
            await read_meta(through, keys)
        assert await read_meta(through, keys) is None
