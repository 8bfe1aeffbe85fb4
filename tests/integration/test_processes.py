"""The list of living worker processes: they add themselves, expire, and remove themselves when they stop."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from memory_worker.queue import processes
from memory_worker.queue.processes import Process, beat, keep_beating, leave, living, reports
from memory_worker.wire.keys import Keys
from tests.integration.conftest import SIGNAL_TIMEOUT_S, MakeSettings, connected, running
from tests.servers import RedisServer


async def roles(redis: Redis, keys: Keys) -> dict[str, str]:
    return {process.id: process.role for process in await living(redis, keys)}


async def test_a_process_is_listed_from_its_first_beat_until_it_leaves(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "ingest")
    await beat(redis, keys, "b", "search")
    await beat(redis, keys, "a", "ingest")
    assert await roles(redis, keys) == {"a": "ingest", "b": "search"}
    assert await redis.get(keys.process("a")) == b"ingest"
    await leave(redis, keys, "a", "ingest")
    assert await roles(redis, keys) == {"b": "search"}
    assert not await redis.exists(keys.process("a"))


async def test_a_process_without_a_beat_is_removed(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "all", ttl_s=0.001)
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while await redis.exists(keys.process("a")):
            pass
    assert await living(redis, keys) == []
    await beat(redis, keys, "b", "all")
    assert await redis.zcard(keys.processes) == 1


async def test_a_process_reports_what_it_has_done(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_INTERVAL_S", 0.01)
    beating = asyncio.create_task(keep_beating(redis, keys, "a", "ingest", lambda: b"done"))
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while await reports(redis, keys, ["b", "a"]) != [None, b"done"]:
            pass
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    assert 0 < await redis.pttl(keys.process_report("a")) <= 30_000
    await leave(redis, keys, "a", "ingest")
    assert await reports(redis, keys, ["a"]) == [None]
    assert await reports(redis, keys, []) == []


async def test_an_unknown_entry_is_ignored(redis: Redis, keys: Keys) -> None:
    await beat(redis, keys, "a", "ingest")
    await redis.zadd(keys.processes, {"one two": "+inf", b"\xff x y z": "+inf", "": "+inf"})
    assert list(await roles(redis, keys)) == ["a"]


async def test_a_process_can_beat_in_a_full_redis(own_redis: RedisServer, keys: Keys) -> None:
    async with connected(own_redis.url) as redis:
        await redis.config_set("maxmemory", 1)
        await beat(redis, keys, "a", "ingest")
        assert len(await living(redis, keys)) == 1


async def test_a_worker_is_listed_from_its_start_to_its_end(redis: Redis, keys: Keys, settings: MakeSettings) -> None:
    async with running(settings(), role="search"):
        (process,) = await living(redis, keys)
        assert isinstance(process, Process)
        assert process.role == "search"
        assert await redis.exists(keys.process(process.id))
    assert await living(redis, keys) == []
    assert not await redis.exists(keys.process(process.id))
