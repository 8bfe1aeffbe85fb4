"""A Redis that is away, hangs or refuses: a worker recovers by itself, or ends and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import QueueFull, QueueUnavailable
from memory_worker.runtime.process import WorkerProcess
from memory_worker.settings import Settings
from tests.chaos.servers import RedisServer, free_port
from tests.integration.conftest import Events, connected, running
from tests.integration.jobs import axis

MakeSettings = Callable[..., Settings]
ENDED_WITHIN_S = 15.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, which may be harmed."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def impatient(settings: MakeSettings, own: RedisServer) -> Settings:
    return settings(
        redis_url=SecretStr(own.url), redis_timeout_s=0.3, redis_patience_s=1.0, rescue_interval_s=0.1, worker_grace_s=1
    )


async def ended(app: asyncio.Task[None]) -> QueueUnavailable:
    with pytest.raises(QueueUnavailable) as told:
        async with asyncio.timeout(ENDED_WITHIN_S):
            await app
    return told.value


async def start(settings: Settings) -> asyncio.Task[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(WorkerProcess(settings, "all").run(on_ready=ready.set))
    async with asyncio.timeout(ENDED_WITHIN_S):
        await ready.wait()
    return task


async def test_a_redis_that_is_gone_ends_the_worker(impatient: Settings, own: RedisServer) -> None:
    app = await start(impatient)
    own.kill()
    assert "Redis" in str(await ended(app))


async def test_a_redis_that_hangs_ends_the_worker(impatient: Settings, own: RedisServer) -> None:
    app = await start(impatient)
    own.freeze()
    assert "Redis" in str(await ended(app))
    own.thaw()


async def test_a_redis_that_became_a_replica_ends_the_worker(impatient: Settings, own: RedisServer) -> None:
    """After a failover the old primary takes no writes: alive, it would never do a job again."""
    app = await start(impatient)
    async with connected(own.url) as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
        assert "read only" in str(await ended(app)).lower()


async def test_a_redis_that_cannot_persist_ends_the_worker(impatient: Settings, own: RedisServer) -> None:
    app = await start(impatient)
    async with connected(own.url) as redis:
        await redis.config_set("min-replicas-to-write", 1)  # refuses writes, as MISCONF does
        assert "refuses" in str(await ended(app))


async def test_a_redis_that_comes_back_in_time_is_waited_for(
    impatient: Settings, own: RedisServer, events: Events
) -> None:
    patient = impatient.model_copy(update={"redis_patience_s": 30.0})
    async with running(patient), MemoryQueue.connect(own.url, prefix=patient.queue_prefix) as queue:
        own.kill()
        await events.wait_for("redis_unwell")
        own.start()
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        await queue.wait_applied(receipt, timeout=ENDED_WITHIN_S)
        assert await queue.search(user_id=1, vector=axis(0))


async def test_too_many_waiting_searches_are_refused_at_once(settings: MakeSettings, own: RedisServer) -> None:
    few = settings(redis_url=SecretStr(own.url), search_max_waiting=2)
    async with running(few, role="ingest"), MemoryQueue.connect(own.url, prefix=few.queue_prefix) as queue:
        waiting = [asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=30)) for _ in range(2)]
        async with connected(own.url) as redis, asyncio.timeout(ENDED_WITHIN_S):
            while await redis.zcard(f"{few.queue_prefix}:search") < 2:  # noqa: ASYNC110  # there is no signal for it
                await asyncio.sleep(0.01)
        with pytest.raises(QueueFull, match="at most 2 reads"):
            await queue.search(user_id=1, vector=axis(0))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
