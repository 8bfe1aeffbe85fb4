"""A pool that was closed while a request was under way: the request succeeds, and leaves no connection open."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from memory_worker.wire.blocking import open_blocking_redis
from memory_worker.wire.completing import complete
from memory_worker.wire.connection import Access, close_redis, open_redis
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.servers import RedisServer


async def until_alone(redis: Redis) -> None:
    """Wait until there is no other connection to this Redis."""
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while len(await redis.client_list()) > 1:  # noqa: ASYNC110  # nothing else shows it
            await asyncio.sleep(0)


async def test_with_asyncio(own_redis: RedisServer) -> None:
    pool = open_redis(own_redis.url, timeout_s=5)
    await pool.set("key", "0")
    waiting = asyncio.create_task(pool.get("key"))  # opens its connection only after the pool is closed
    await close_redis(pool)
    assert await waiting == b"0"
    async with connected(own_redis.url) as redis:
        await until_alone(redis)


async def test_with_threads(own_redis: RedisServer) -> None:
    pool = open_blocking_redis(own_redis.url, prefix="mw", access=Access(), max_connections=2)
    complete(pool.execute_command("SET", "key", "0"))
    pool.connection_pool.disconnect()  # type: ignore[unused-coroutine]  # it blocks
    assert complete(pool.execute_command("GET", "key")) == b"0"
    async with connected(own_redis.url) as redis:
        await until_alone(redis)
