"""Which worker processes live: they say so, are forgotten when they no longer do, and leave in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from redis.asyncio import Redis

from memory_worker.queue.processes import Process, beat, leave, living
from memory_worker.settings import Settings
from memory_worker.wire.keys import Keys
from tests.chaos.servers import RedisServer
from tests.integration.conftest import connected, running


async def roles(redis: Redis, keys: Keys) -> dict[str, str]:
    return {process.id: process.role for process in await living(redis, keys)}


async def test_processes_that_beat_live_and_those_that_leave_do_not(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "ingest")
    await beat(redis, keys, "b", "search")
    await beat(redis, keys, "a", "ingest")
    assert await roles(redis, keys) == {"a": "ingest", "b": "search"}
    assert await redis.get(keys.process("a")) == b"ingest"
    await leave(redis, keys, "a", "ingest")
    assert await roles(redis, keys) == {"b": "search"}
    assert not await redis.exists(keys.process("a"))


async def test_a_process_that_beats_no_more_is_forgotten(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "all", ttl_s=0.05)
    async with asyncio.timeout(5):
        while await redis.exists(keys.process("a")):  # noqa: ASYNC110  # there is no signal for it
            await asyncio.sleep(0.01)
    assert await living(redis, keys) == []
    await beat(redis, keys, "b", "all")
    assert await redis.zcard(keys.processes) == 1


async def test_what_another_version_wrote_is_passed_over(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "ingest")
    await redis.zadd(keys.processes, {"one two": "+inf", b"\xff x y z": "+inf", "": "+inf"})
    assert list(await roles(redis, keys)) == ["a"]


async def test_it_works_in_a_full_redis(tmp_path: Path, keys: Keys) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        async with connected(server.url) as redis:
            await redis.config_set("maxmemory", 1)
            await beat(redis, keys, "a", "ingest")
            assert len(await living(redis, keys)) == 1
    finally:
        server.kill()


async def test_a_worker_lives_from_its_start_to_its_end(
    redis: Redis, keys: Keys, settings: Callable[..., Settings]
) -> None:
    async with running(settings(), role="search"):
        (process,) = await living(redis, keys)
        assert isinstance(process, Process)
        assert process.role == "search"
        assert await redis.exists(keys.process(process.id))
    assert await living(redis, keys) == []
    assert not await redis.exists(keys.process(process.id))
