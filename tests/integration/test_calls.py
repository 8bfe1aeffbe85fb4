"""Calls: read jobs on the queue of arq, and replies on lists."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from memory_worker.contract import MAX_TIMEOUT_MS, Get, Hit, Info, Reply, Search, convert_read
from memory_worker.contract.errors import QueueError
from memory_worker.queue.read_jobs import (
    LARGE_REPLY_BYTES,
    REPLY_MARGIN_MS,
    OutgoingReply,
    check_reply_to,
    encode_reply,
    send_replies,
    take_read_jobs,
)
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.call import call, enqueue_call, wait_for_reply
from memory_worker.wire.connection import Deadline
from memory_worker.wire.keys import Keys, user_reads
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected
from tests.integration.jobs import axis
from tests.integration.proxies import RedisProxy
from tests.tools import arq_client

REPLY = Reply(ok=True, hits=[Hit("mem_1_1", 0.5, {"value": "x"})], engine_ms=1.5)
LIFE_MS = 30_000
MAX_BYTES = 1_000_000
NOTHING: tuple[list[Any], int] = ([], 0)


async def send(redis: Redis, keys: Keys, *names: str, body: bytes | None = None, **options: Any) -> int:
    """Send replies to jobs that a worker has taken and whose callers wait."""
    await redis.zadd(keys.search_queue, dict.fromkeys(names, 9e15))
    body = encode_reply(REPLY) if body is None else body
    replies = [
        OutgoingReply(name.encode(), **{"key": keys.reply(name), "body": body, "life_ms": LIFE_MS, **options})
        for name in names
    ]
    return await send_replies(redis, keys, user_reads(keys), replies, max_bytes=MAX_BYTES)


async def test_a_call_is_a_job_that_arq_can_read(redis: Redis, keys: Keys) -> None:
    job = Search(user_id=1, vector=axis(0), category="c", timeout_ms=3_000)
    reply_to = (await enqueue_call(redis, keys, job)).reply_to

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


async def test_a_waiting_caller_gets_the_reply(
    redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
) -> None:
    reply_to = keys.reply("a-job")
    waits = redis_proxy.seen(b"BLPOP")
    waiting = asyncio.create_task(wait_for_reply(watched, reply_to, timeout_s=SIGNAL_TIMEOUT_S))
    await waits.wait()
    await send(redis, keys, "a-job")
    assert await waiting == REPLY
    assert redis_proxy.words() == ["BLPOP"]
    assert not await redis.exists(reply_to)


async def test_a_reply_without_a_caller_expires(redis: Redis, keys: Keys) -> None:
    reply_to = keys.reply("a-job")
    await send(redis, keys, "a-job")
    assert LIFE_MS - 5_000 < await redis.pttl(reply_to) <= LIFE_MS
    assert await wait_for_reply(redis, reply_to, timeout_s=1) == REPLY


@pytest.mark.parametrize("reply_to", ["{prefix}:stream:0", "{prefix}:reply", "other:reply:a-job", ""])
def test_a_reply_may_only_go_to_a_key_for_replies(keys: Keys, reply_to: str) -> None:
    check_reply_to(keys, keys.reply("a-job"))
    with pytest.raises(QueueError, match="reply"):
        check_reply_to(keys, reply_to.format(prefix=keys.prefix))


async def test_many_replies_are_sent_in_one_round_trip(
    redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
) -> None:
    replies = [
        OutgoingReply(
            str(number).encode(), keys.reply(str(number)), encode_reply(Reply(ok=True, engine_ms=number)), LIFE_MS
        )
        for number in range(20)
    ]
    await send(redis, keys, "first")  # loads the script
    await redis.zadd(keys.search_queue, {sending.job_id: 9e15 for sending in replies})
    redis_proxy.words()
    await send_replies(watched, keys, user_reads(keys), replies, max_bytes=MAX_BYTES)
    assert redis_proxy.words() == ["EVALSHA"]
    for number in range(20):
        reply = await wait_for_reply(redis, keys.reply(str(number)), timeout_s=1)
        assert reply is not None
        assert reply.engine_ms == number


class TestTake:
    async def test_the_oldest_calls_are_taken_first_and_each_once(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        asked = [(await enqueue_call(redis, keys, Get(user_id=1, point_ids=[f"mem_1_{n}"]))).reply_to for n in range(5)]
        assert await redis.llen(keys.search_wakeup) == 1  # type: ignore[misc]
        await take_read_jobs(watched, keys, user_reads(keys), max_jobs=0)
        redis_proxy.words()
        first, _ = await take_read_jobs(watched, keys, user_reads(keys), max_jobs=3)
        assert redis_proxy.words() == ["EVALSHA"]
        rest, _ = await take_read_jobs(watched, keys, user_reads(keys), max_jobs=10)
        assert [keys.reply(call.job_id.decode()) for call in [*first, *rest]] == asked
        assert all(decode_arq(call.body)["f"] == "get" for call in first)
        assert await take_read_jobs(redis, keys, user_reads(keys), max_jobs=10) == NOTHING
        # Callers that use arq find a job in the queue until it is answered.
        assert await redis.zcard(keys.search_queue) == 5
        answered = [OutgoingReply(call.job_id, keys.reply("x"), b"", LIFE_MS) for call in [*first, *rest]]
        await send_replies(redis, keys, user_reads(keys), answered, max_bytes=MAX_BYTES)
        assert await redis.zcard(keys.search_queue) == 0
        assert [key async for key in redis.scan_iter(match=f"arq:job:{keys.prefix}:*", count=1000)] == []

    async def test_another_worker_is_woken_while_calls_are_left(self, redis: Redis, keys: Keys) -> None:
        for _ in range(3):
            await enqueue_call(redis, keys, Info())
        await redis.delete(keys.search_wakeup)
        await take_read_jobs(redis, keys, user_reads(keys), max_jobs=2)
        assert await redis.llen(keys.search_wakeup) == 1  # type: ignore[misc]
        await redis.delete(keys.search_wakeup)
        await take_read_jobs(redis, keys, user_reads(keys), max_jobs=2)
        assert not await redis.exists(keys.search_wakeup)

    async def test_a_call_that_is_due_later_is_not_taken(self, redis: Redis, keys: Keys) -> None:
        await arq_client(redis).enqueue_job(
            "info", {}, _queue_name=keys.search_queue, _defer_by=60, _job_id=f"{keys.prefix}:later"
        )
        assert await take_read_jobs(redis, keys, user_reads(keys), max_jobs=10) == NOTHING
        assert await redis.zcard(keys.search_queue) == 1

    async def test_a_job_without_a_record_is_removed(self, redis: Redis, keys: Keys) -> None:
        await redis.zadd(keys.search_queue, {b"\xff: no text": 1})
        assert await take_read_jobs(redis, keys, user_reads(keys), max_jobs=10) == NOTHING
        assert await redis.zcard(keys.search_queue) == 0

    async def test_a_wrong_key_of_one_caller_does_not_affect_the_others(self, redis: Redis, keys: Keys) -> None:
        await redis.set(keys.reply("bad"), "no list")
        await send(redis, keys, "a", "bad", "b")
        assert [await wait_for_reply(redis, keys.reply(name), timeout_s=1) for name in ("a", "b")] == [REPLY, REPLY]


class TestReplyLimit:
    """Large replies that are not yet taken have a limit of bytes together."""

    LARGE = b"x" * (MAX_BYTES // 4)

    @pytest.mark.parametrize("is_result", [False, True])
    async def test_a_reply_above_the_limit_is_replaced(self, redis: Redis, keys: Keys, is_result: bool) -> None:
        names = [f"{number}" for number in range(6)]
        refused = [
            await send(redis, keys, name, body=self.LARGE, fallback=b"no room", is_result=is_result) for name in names
        ]
        assert refused == [0, 0, 0, 0, 1, 1]
        take = redis.get if is_result else redis.lpop
        found = [await take(keys.reply(name)) for name in names]  # type: ignore[operator]
        assert found == [self.LARGE] * 4 + [b"no room"] * 2

    async def test_a_taken_reply_makes_room(self, redis: Redis, keys: Keys) -> None:
        for number in range(20):
            assert await send(redis, keys, str(number), body=self.LARGE, fallback=b"no room") == 0
            assert await redis.lpop(keys.reply(str(number))) == self.LARGE  # type: ignore[misc]
        assert await redis.zcard(keys.replies) <= 5

    async def test_an_expired_reply_makes_room(self, redis: Redis, keys: Keys) -> None:
        await send(redis, keys, "a", "b", "c", "d", body=self.LARGE)
        assert await send(redis, keys, "e", body=self.LARGE, fallback=b"no room") == 1
        await redis.delete(keys.reply("b"))
        assert await send(redis, keys, "f", body=self.LARGE, fallback=b"no room") == 0

    async def test_small_replies_are_not_counted(self, redis: Redis, keys: Keys) -> None:
        small = b"x" * (LARGE_REPLY_BYTES - 1)
        names = [str(number) for number in range(100)]
        assert await send(redis, keys, *names, body=small) == 0
        assert not await redis.exists(keys.replies, keys.replies_bytes)

    async def test_the_count_expires_after_the_longest_wait(self, redis: Redis, keys: Keys) -> None:
        await send(redis, keys, "a", body=self.LARGE)
        for key in (keys.replies, keys.replies_bytes):
            assert LIFE_MS < await redis.pttl(key) <= MAX_TIMEOUT_MS + REPLY_MARGIN_MS


class TestGivenUp:
    async def test_a_job_that_was_not_taken_is_removed(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        reply_to = await self.give_up(redis, watched, redis_proxy, keys)
        assert await take_read_jobs(redis, keys, user_reads(keys), max_jobs=10) == NOTHING
        assert not await redis.exists(keys.arq_job(reply_to.removeprefix(keys.reply(""))))

    async def test_a_job_that_was_taken_gets_no_reply(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        reply_to = await self.give_up(redis, watched, redis_proxy, keys, taken=True)
        job_id = reply_to.removeprefix(keys.reply("")).encode()
        sending = OutgoingReply(job_id, reply_to, encode_reply(REPLY), LIFE_MS)
        await send_replies(redis, keys, user_reads(keys), [sending], max_bytes=MAX_BYTES)
        assert not await redis.exists(reply_to)

    async def test_a_caller_can_give_up_while_redis_hangs(
        self, redis: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        async with connected(redis_proxy.url, timeout_s=1000) as patient, asyncio.timeout(SIGNAL_TIMEOUT_S):
            await self.give_up(redis, patient, redis_proxy, keys, hanging=True)

    async def give_up(
        self,
        redis: Redis,
        watched: Redis,
        redis_proxy: RedisProxy,
        keys: Keys,
        *,
        taken: bool = False,
        hanging: bool = False,
    ) -> str:
        calling = asyncio.create_task(call(watched, keys, Info(timeout_ms=20_000), Deadline(watched, 20)))
        while not (found := await redis.zrange(keys.search_queue, 0, -1)):
            pass
        if taken:
            assert len((await take_read_jobs(redis, keys, user_reads(keys), max_jobs=10))[0]) == 1
        if hanging:
            redis_proxy.hang()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        redis_proxy.go_on()
        return keys.reply(found[0].decode())


async def test_a_reply_that_cannot_be_decoded_is_an_error(redis: Redis, keys: Keys) -> None:
    for body in (b"\xc1", b"", msgspec.msgpack.encode({"hits": 1})):
        await redis.rpush(keys.reply("a-job"), body)  # type: ignore[misc]
        with pytest.raises(QueueError, match="cannot be read"):
            await wait_for_reply(redis, keys.reply("a-job"), timeout_s=1)
