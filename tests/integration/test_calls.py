"""Calls: read jobs on arq's queue, replies on lists."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from arq.connections import ArqRedis

from tests.integration.conftest import SIGNAL_TIMEOUT_S, Everything
from tests.integration.jobs import axis
from tests.integration.proxies import RedisProxy
from worker.contract import Get, Hit, Info, Reply, Search, convert_read
from worker.errors import QueueError
from worker.queue.calls import REPLY_LIFE_S, enqueue_call, send_reply, take_reply
from worker.queue.codec import decode_arq
from worker.queue.keys import Keys

REPLY = Reply(ok=True, hits=[Hit("mem_1_1", 0.5, {"value": "x"})], engine_ms=1.5)


async def test_a_job_for_arq(redis: ArqRedis, keys: Keys) -> None:
    job = Search(user_id=1, vector=axis(0), category="c", timeout_ms=3_000)
    reply_to = await enqueue_call(redis, keys, job)

    [(job_id, score)] = await redis.zrange(keys.search_queue, 0, -1, withscores=True)
    assert reply_to == keys.reply(job_id.decode())
    assert score == pytest.approx(time.time() * 1000, abs=60_000)
    key = keys.arq_job(job_id.decode())
    assert 3_000 < await redis.pttl(key) <= 4_000
    body = await redis.get(key)
    assert body is not None
    record = decode_arq(body)
    assert record["f"] == "search"
    assert record["k"] == {"reply_to": reply_to}
    assert convert_read(record["a"][0], Search) == job


async def test_one_round_trip(watched: ArqRedis, redis_proxy: RedisProxy, keys: Keys) -> None:
    await enqueue_call(watched, keys, Info())
    redis_proxy.words()
    first = await enqueue_call(watched, keys, Info())
    assert redis_proxy.words() == ["EVALSHA"]
    assert await enqueue_call(watched, keys, Get(user_id=1, point_ids=["mem_1_1"])) != first


async def test_the_reply_comes_to_who_waits(
    redis: ArqRedis, watched: ArqRedis, redis_proxy: RedisProxy, keys: Keys
) -> None:
    reply_to = keys.reply("a-job")
    waits = redis_proxy.seen(b"BLPOP")
    waiting = asyncio.create_task(take_reply(watched, reply_to, timeout_s=SIGNAL_TIMEOUT_S))
    await waits.wait()
    await send_reply(redis, keys, reply_to, REPLY)
    assert await waiting == REPLY
    assert redis_proxy.words() == ["BLPOP"]
    assert not await redis.exists(reply_to)


async def test_a_reply_that_nobody_takes_expires(redis: ArqRedis, keys: Keys) -> None:
    reply_to = keys.reply("a-job")
    await send_reply(redis, keys, reply_to, REPLY)
    assert REPLY_LIFE_S - 5 < await redis.ttl(reply_to) <= REPLY_LIFE_S
    assert await take_reply(redis, reply_to, timeout_s=1) == REPLY


async def test_no_reply_in_time(redis: ArqRedis, keys: Keys) -> None:
    started = time.monotonic()
    assert await take_reply(redis, keys.reply("a-job"), timeout_s=0.05) is None
    assert 0.04 < time.monotonic() - started < 2


@pytest.mark.parametrize("reply_to", ["{prefix}:stream:0", "{prefix}:reply", "other:reply:a-job", ""])
async def test_a_reply_goes_nowhere_else(redis: ArqRedis, keys: Keys, everything: Everything, reply_to: str) -> None:
    with pytest.raises(QueueError, match="reply"):
        await send_reply(redis, keys, reply_to.format(prefix=keys.prefix), REPLY)
    assert await everything() == {}
    assert not await redis.exists("other:reply:a-job")


@pytest.mark.parametrize("body", [b"\xc1", b"", msgspec.msgpack.encode({"hits": 1})])
async def test_a_reply_that_cannot_be_read(redis: ArqRedis, keys: Keys, body: bytes) -> None:
    await redis.rpush(keys.reply("a-job"), body)  # type: ignore[misc]
    with pytest.raises(QueueError, match="cannot be read"):
        await take_reply(redis, keys.reply("a-job"), timeout_s=1)
