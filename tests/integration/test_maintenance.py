"""A Redis that is down, hangs or refuses writes: a worker recovers by itself, or ends with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import QueueFull, QueueUnavailable
from memory_worker.settings import Settings
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeSettings, connected, running, started
from tests.integration.jobs import axis
from tests.servers import RedisServer, free_port


@pytest.fixture
def impatient(settings: MakeSettings, own_redis: RedisServer) -> Settings:
    return settings(
        redis_url=SecretStr(own_redis.url),
        redis_timeout_s=1,
        redis_patience_s=2,
        rescue_interval_s=0.1,
        worker_grace_s=1,
    )


@asynccontextmanager
async def ending(settings: Settings, message: str) -> AsyncIterator[None]:
    """Run a worker; it must end with this message after the block."""
    _, task = await started(settings)
    yield
    with pytest.raises(QueueUnavailable, match=message):
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await task


async def test_a_redis_that_is_killed_ends_the_worker(impatient: Settings, own_redis: RedisServer) -> None:
    async with ending(impatient, "Redis"):
        own_redis.kill()


async def test_a_redis_that_hangs_ends_the_worker(impatient: Settings, own_redis: RedisServer) -> None:
    async with ending(impatient, "Redis"):
        own_redis.freeze()
    own_redis.thaw()


async def test_a_redis_that_became_a_replica_ends_the_worker(impatient: Settings, own_redis: RedisServer) -> None:
    """After a failover the old primary accepts no writes. A worker that stayed there could do no work."""
    async with connected(own_redis.url) as redis, ending(impatient, "(?i)read only"):
        await redis.execute_command("REPLICAOF", "127.0.0.1", free_port())


async def test_a_redis_that_refuses_writes_ends_the_worker(impatient: Settings, own_redis: RedisServer) -> None:
    async with connected(own_redis.url) as redis, ending(impatient, "refuses"):
        await redis.config_set("min-replicas-to-write", 1)  # its error is similar to MISCONF


async def test_a_worker_waits_for_a_redis_that_restarts_in_time(
    impatient: Settings, own_redis: RedisServer, events: Events
) -> None:
    patient = impatient.model_copy(update={"redis_patience_s": 30.0})
    async with running(patient), MemoryQueue.connect(own_redis.url, prefix=patient.queue_prefix) as queue:
        own_redis.kill()
        await events.wait_for("redis_unwell")
        restarts = await events.wait_for("role_restarts", times=2)
        assert {fields["role"] for fields in restarts} == {"ingest", "search", "admin"}
        own_redis.start()
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        await queue.wait_applied(receipt, timeout=SIGNAL_TIMEOUT_S)
        assert await queue.search(user_id=1, vector=axis(0), timeout=SIGNAL_TIMEOUT_S)


async def test_a_search_is_refused_if_too_many_wait(settings: MakeSettings, own_redis: RedisServer) -> None:
    few = settings(redis_url=SecretStr(own_redis.url), search_max_waiting=2)
    async with running(few, role="ingest"), MemoryQueue.connect(own_redis.url, prefix=few.queue_prefix) as queue:
        waiting = [asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=30)) for _ in range(2)]
        async with connected(own_redis.url) as redis, asyncio.timeout(SIGNAL_TIMEOUT_S):
            while await redis.zcard(f"{few.queue_prefix}:search") < 2:
                pass
        with pytest.raises(QueueFull, match="at most 2 reads"):
            await queue.search(user_id=1, vector=axis(0))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
