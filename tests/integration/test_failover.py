"""A replica promoted behind one address: nobody stays with the server that is the primary no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.contract.errors import QueueUnavailable
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from tests.chaos.servers import RedisServer
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.proxies import RedisProxy

KEYS = Keys()
IDLE = 8


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    pair = RedisServer(tmp_path / "primary"), RedisServer(tmp_path / "replica")
    for server in pair:
        server.start()
    yield pair
    for server in pair:
        server.kill()


@pytest.fixture
async def address(servers: tuple[RedisServer, RedisServer]) -> AsyncIterator[RedisProxy]:
    """The one address of the pair, which leads to the primary."""
    primary, replica = servers
    async with connected(primary.url) as redis, connected(replica.url) as copy:
        await redis.config_set("repl-diskless-sync-delay", 0)
        await publish_meta(redis, KEYS, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        await copy.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while await redis.execute_command("WAIT", 1, 500) < 1:  # asked again: the first full copy takes its time
                await redis.set("tick", "1")
    async with RedisProxy(primary.url) as proxy:
        yield proxy


async def promote(servers: tuple[RedisServer, RedisServer], address: RedisProxy) -> None:
    """Let the replica be the primary, the primary its replica, and the address lead to the new one."""
    primary, replica = servers
    async with connected(primary.url) as old, connected(replica.url) as new:
        await new.execute_command("REPLICAOF", "NO", "ONE")
        address.target = replica.url
        await old.execute_command("REPLICAOF", "127.0.0.1", replica.port)


async def used(queue: MemoryQueue) -> None:
    """Let the queue have several idle connections of each kind."""
    await asyncio.gather(
        *(queue.delete(user_id=user, point_id=f"mem_{user}_1") for user in range(1, 64 * IDLE)),
        *(queue._producer.open().redis.ping() for _ in range(IDLE)),
        *(queue._producer.open().blocking.ping() for _ in range(IDLE)),
    )


async def test_after_one_refusal_pushes_go_to_the_new_primary(
    servers: tuple[RedisServer, RedisServer], address: RedisProxy
) -> None:
    async with MemoryQueue.connect(address.url) as queue:
        await used(queue)
        await promote(servers, address)
        with pytest.raises(QueueUnavailable, match=r"(?i)read.only"):
            await queue.delete(user_id=1, point_id="mem_1_1")
        receipts = [await queue.delete(user_id=user, point_id=f"mem_{user}_1") for user in range(1, 20)]
    async with connected(servers[1].url) as new:
        for receipt in receipts:
            assert await new.xrange(KEYS.stream(receipt.partition), receipt.entry_id, receipt.entry_id)


async def test_reads_follow_too(servers: tuple[RedisServer, RedisServer], address: RedisProxy) -> None:
    """A refusal of one kind of connection closes the idle ones of the other as well."""
    async with MemoryQueue.connect(address.url) as queue:
        await used(queue)
        await promote(servers, address)
        with pytest.raises(QueueUnavailable):
            await queue.delete(user_id=1, point_id="mem_1_1")
        blocking = queue._producer.open().blocking
        roles = [await blocking.execute_command("ROLE") for _ in range(IDLE)]
        assert {role[0] for role in roles} == {b"master"}


async def test_who_waits_at_the_old_primary_is_told(
    servers: tuple[RedisServer, RedisServer], address: RedisProxy
) -> None:
    """Redis ends waits for a reply with UNBLOCKED when it becomes a replica."""
    async with MemoryQueue.connect(address.url) as queue:
        waits = address.seen(b"BLPOP")
        searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=SIGNAL_TIMEOUT_S))
        await waits.wait()
        await promote(servers, address)
        with pytest.raises(QueueUnavailable, match="UNBLOCKED"):
            await searching


async def test_a_primary_that_hangs_is_left(servers: tuple[RedisServer, RedisServer], address: RedisProxy) -> None:
    """It says nothing any more: a request that gets no answer in time is a sign, too."""
    async with MemoryQueue.connect(address.url, timeout_s=2) as queue:
        await used(queue)
        servers[0].freeze()
        async with connected(servers[1].url) as new:
            await new.execute_command("REPLICAOF", "NO", "ONE")
        address.target = servers[1].url
        with pytest.raises(QueueUnavailable):
            await queue.delete(user_id=1, point_id="mem_1_1")
        receipt = await queue.delete(user_id=1, point_id="mem_1_1")
        assert isinstance(receipt, Receipt)


async def test_a_replica_that_has_lost_its_primary_is_left(servers: tuple[RedisServer, RedisServer]) -> None:
    first, second = servers
    async with (
        connected(first.url) as redis,
        RedisProxy(first.url) as address,
        connected(address.url) as through,
    ):
        await through.ping()
        await redis.config_set("replica-serve-stale-data", "no")
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        address.target = second.url
        with pytest.raises(QueueUnavailable, match="MASTERDOWN"):
            await read_meta(through, KEYS)
        assert await read_meta(through, KEYS) is None
