"""The list of calls: workers take read jobs of clients with the command that waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Count, Info, Reply, convert_read
from memory_worker.contract.errors import QueueFull, ReadFailed
from memory_worker.queue.read_jobs import (
    OutgoingReply,
    TakenReadJob,
    encode_reply,
    send_replies,
    stop_taking,
    take_read_jobs,
    wait_for_calls,
)
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.call import Call, call, enqueue_call, wait_for_reply
from memory_worker.wire.connection import Deadline
from memory_worker.wire.keys import Keys, user_reads
from memory_worker.wire.scripts import scripts
from tests.arq_producer import arq_pool
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeSettings, connected, running
from tests.integration.jobs import axis
from tests.integration.proxies import Hold, QdrantProxy, RedisProxy
from tests.integration.threaded import threaded

LIFE_MS = 30_000
REPLY = Reply(ok=True, count=3)


@pytest.fixture
async def taker(redis: Redis, keys: Keys) -> None:
    """A worker takes jobs from the list of calls."""
    await take_read_jobs(redis, keys, user_reads(keys), max_jobs=0)


async def take(redis: Redis, keys: Keys, *, max_jobs: int = 10, wakeup_first: bool = False) -> list[TakenReadJob]:
    return await wait_for_calls(
        redis, user_reads(keys), max_jobs=max_jobs, timeout_s=SIGNAL_TIMEOUT_S, wakeup_first=wakeup_first
    )


async def answer(redis: Redis, keys: Keys, job: TakenReadJob, body: bytes | None = None, **options: Any) -> int:
    """Send the reply of a worker that has taken a job."""
    reply_to = decode_arq(job.body)["k"]["reply_to"]
    body = encode_reply(REPLY) if body is None else body
    reply = OutgoingReply(job.job_id, reply_to, body, LIFE_MS, in_queue=job.in_queue, **options)
    return await send_replies(redis, keys, user_reads(keys), [reply], max_bytes=1_000_000)


async def cancelled(redis: Redis, sent: Call) -> int:
    return int(await scripts.run(redis, "cancel", *sent.cancelling()))


@pytest.mark.usefixtures("taker")
class TestList:
    async def test_a_call_is_one_item_that_a_worker_takes_with_one_command(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        jobs = [
            Count(user_id=number, timeout_ms=timeout_ms) for number, timeout_ms in ((1, 9000), (2, 3000), (3, 3000))
        ]
        sent = [await enqueue_call(redis, keys, job) for job in jobs]
        assert 9_000 < await redis.pttl(keys.search_calls) <= 10_000  # until the last job expires
        assert not await redis.exists(keys.search_queue, keys.search_wakeup, keys.arq_job(sent[0].job_id))
        first = await take(watched, keys, max_jobs=2)
        assert redis_proxy.words()[-1:] == ["BLMPOP"]
        taken = [*first, *await take(redis, keys)]
        assert [job.job_id.decode() for job in taken] == [one.job_id for one in sent]
        records = [decode_arq(job.body) for job in taken]
        assert [convert_read(record["a"][0], Count) for record in records] == jobs
        assert not any(job.in_queue for job in taken)

    async def test_a_reply_needs_no_job_in_the_queue_and_expires(self, redis: Redis, keys: Keys) -> None:
        sent = await enqueue_call(redis, keys, Info())
        await answer(redis, keys, *await take(redis, keys))
        assert LIFE_MS - 5_000 < await redis.pttl(sent.reply_to) <= LIFE_MS
        assert await wait_for_reply(redis, sent.reply_to, timeout_s=1) == REPLY

    async def test_a_wakeup_and_calls_are_taken_in_the_order_that_is_asked_for(self, redis: Redis, keys: Keys) -> None:
        await enqueue_call(redis, keys, Info())
        await redis.rpush(keys.search_wakeup, 1)  # type: ignore[misc]
        assert await take(redis, keys, wakeup_first=True) == []
        assert len(await take(redis, keys, wakeup_first=True)) == 1

    async def test_calls_go_to_the_queue_once_no_worker_takes_from_the_list(self, redis: Redis, keys: Keys) -> None:
        assert 0 < await redis.pttl(keys.search_taker) <= 5_000
        await stop_taking(redis, user_reads(keys))
        await enqueue_call(redis, keys, Info())
        assert not await redis.exists(keys.search_calls)
        assert await redis.zcard(keys.search_queue) == 1

    async def test_waiting_calls_count_towards_the_limit(self, redis: Redis, keys: Keys) -> None:
        await redis.hset(keys.meta, "max_reads", 3)  # type: ignore[misc]
        await redis.zadd(keys.search_queue, {"a-job": 1})
        for _ in range(2):
            await enqueue_call(redis, keys, Info())
        with pytest.raises(QueueFull):
            await enqueue_call(redis, keys, Info())
        await take(redis, keys)
        await enqueue_call(redis, keys, Info())


@pytest.mark.usefixtures("taker")
class TestGivenUp:
    async def test_a_job_that_was_not_taken_is_removed(self, redis: Redis, keys: Keys) -> None:
        first, second = await enqueue_call(redis, keys, Info()), await enqueue_call(redis, keys, Info())
        assert await cancelled(redis, first) == 1
        assert [job.job_id.decode() for job in await take(redis, keys)] == [second.job_id]
        assert not await redis.exists(first.reply_to)

    @pytest.mark.parametrize("size", [100, 100_000])
    async def test_a_job_that_was_taken_gets_no_reply(self, redis: Redis, keys: Keys, size: int) -> None:
        sent = await enqueue_call(redis, keys, Info(timeout_ms=20_000))
        [job] = await take(redis, keys)
        assert await cancelled(redis, sent) == 0
        assert await answer(redis, keys, job, b"x" * size, fallback=b"no room") == 0
        assert await redis.get(sent.reply_to) == b""
        assert 20_000 < await redis.pttl(sent.reply_to) <= 21_000
        assert not await redis.exists(keys.replies)

    async def test_a_reply_that_has_come_is_removed(self, redis: Redis, keys: Keys) -> None:
        sent = await enqueue_call(redis, keys, Info())
        await answer(redis, keys, *await take(redis, keys))
        await cancelled(redis, sent)
        assert await redis.get(sent.reply_to) == b""


@pytest.mark.usefixtures("taker")
class TestCall:
    """One write: the job, and the command that waits for the reply."""

    async def test_a_call_gets_its_reply(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        for commands in (["EVALSHA", "BLPOP", "EVALSHA", "EVAL", "BLPOP"], ["EVALSHA", "BLPOP"]):
            await redis.script_flush() if len(commands) > 2 else None
            redis_proxy.words()
            calling = asyncio.create_task(call(watched, keys, Info(), Deadline(watched, 5)))
            await answer(redis, keys, *await take(redis, keys))
            assert await calling == REPLY
            assert [word for word in redis_proxy.words() if word != "CLIENT"] == commands

    async def test_a_call_is_sent_again_over_another_connection(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        redis_proxy.lose_reply_to(b"EVALSHA")
        calling = asyncio.create_task(call(watched, keys, Info(), Deadline(watched, 5)))
        taken: list[TakenReadJob] = []
        while len(taken) < 2:  # the first one has arrived as well
            taken += await take(redis, keys)
        assert taken[0].job_id == taken[1].job_id
        await answer(redis, keys, taken[1])
        assert await calling == REPLY

    async def test_a_refused_call_keeps_its_connection(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys
    ) -> None:
        await redis.hset(keys.meta, "max_reads", 1)  # type: ignore[misc]
        await enqueue_call(redis, keys, Info())
        await watched.ping()
        redis_proxy.words()
        for _ in range(3):
            with pytest.raises(QueueFull):
                await call(watched, keys, Info(), Deadline(watched, 5))
        assert redis_proxy.words() == ["EVALSHA", "BLPOP"] * 3

    async def test_a_job_whose_worker_dies_is_not_repeated(self, redis: Redis, keys: Keys) -> None:
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(call(redis, keys, Info(), Deadline(redis, 0.2)))
            assert len(await take(redis, keys)) == 1
        assert calling.result() is None
        assert not await redis.exists(keys.search_calls, keys.search_queue)

    async def test_a_blocking_client_does_the_same(
        self, redis: Redis, redis_proxy: RedisProxy, redis_prefix: str, keys: Keys
    ) -> None:
        async with threaded(redis_proxy.url, prefix=redis_prefix) as queue:
            await redis.script_flush()
            for commands in (["EVALSHA", "BLPOP", "EVALSHA", "EVAL", "BLPOP"], ["EVALSHA", "BLPOP"]):
                redis_proxy.words()
                calling = asyncio.create_task(queue.count(user_id=1))
                await answer(redis, keys, *await take(redis, keys))
                assert await calling == 3
                assert [word for word in redis_proxy.words() if word in commands] == commands
            await redis.hset(keys.meta, "max_reads", 1)  # type: ignore[misc]
            await enqueue_call(redis, keys, Info())
            redis_proxy.words()
            for _ in range(2):
                with pytest.raises(QueueFull):
                    await queue.count(user_id=1)
            assert redis_proxy.words() == ["EVALSHA", "BLPOP"] * 2


class TestWorker:
    async def test_jobs_of_arq_are_answered_beside_many_calls(
        self, settings: MakeSettings, queue: MemoryQueue, redis_url: str, keys: Keys
    ) -> None:
        async with running(settings(search_concurrency=1), role="search"), arq_pool(redis_url) as pool:

            async def search_on() -> None:
                while True:
                    await queue.count(user_id=1)

            searching = [asyncio.create_task(search_on()) for _ in range(8)]
            job = await pool.enqueue_job("info", _queue_name=keys.search_queue, _job_id=f"{keys.prefix}-info")
            assert job is not None
            assert (await job.result(timeout=SIGNAL_TIMEOUT_S, poll_delay=0.01))["ok"]
            for task in searching:
                task.cancel()
            await asyncio.wait(searching)
            assert all(task.cancelled() for task in searching)

    async def test_calls_are_answered_beside_many_jobs_of_arq(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, redis_url: str, keys: Keys
    ) -> None:
        jobs = 300
        async with arq_pool(redis_url) as pool:
            for number in range(jobs):
                await pool.enqueue_job("health", _queue_name=keys.search_queue, _job_id=f"{keys.prefix}-{number}")
        async with running(settings(search_concurrency=1, search_poll_ms=1), role="search"):
            await queue.count(user_id=1)
            await queue.count(user_id=1)
            assert await redis.zcard(keys.search_queue) > 0

    async def test_a_worker_at_its_limit_takes_nothing(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        hold = qdrant_proxy.rules["Points/Query"] = Hold()
        async with running(settings(search_concurrency=1, qdrant_url=qdrant_proxy.url), role="search"):
            while not await redis.exists(keys.search_taker):
                pass
            searching = [asyncio.create_task(queue.search(user_id=user, vector=axis(0))) for user in (1, 2)]
            await hold.reached.wait()
            while await redis.llen(keys.search_calls) != 1:  # type: ignore[misc]
                pass
            hold.release()
            assert await asyncio.gather(*searching) == [[], []]

    async def test_a_call_that_comes_while_the_worker_stops_is_answered(
        self, settings: MakeSettings, queue: MemoryQueue, redis_proxy: RedisProxy, redis: Redis, keys: Keys
    ) -> None:
        """The command that waits for calls is on its way, and takes the call."""
        chosen = settings(redis_url=SecretStr(redis_proxy.url), search_poll_ms=1000, admin_concurrency=0)
        async with running(chosen, role="search") as app:
            while not await redis.exists(keys.search_taker):
                pass
            await redis_proxy.seen(b"BLMPOP").wait()
            app.stop()
            await asyncio.sleep(0)
            assert await queue.count(user_id=1) == 0
        assert not await redis.exists(keys.search_taker)

    async def test_an_item_that_is_no_call_harms_nobody(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events
    ) -> None:
        async with running(settings(), role="search"):
            await redis.rpush(keys.search_calls, b"", b"\xff", b"1 2 3", b"x y {}")  # type: ignore[misc]
            assert await queue.count(user_id=1) == 0
            assert len(events.of("read_job_failed")) == 4
            assert not events.of("role_restarts")
        assert not [key async for key in redis.scan_iter(match="arq:result:2", count=1000)]

    async def test_a_search_without_a_worker_fails_in_its_time(self, queue: MemoryQueue) -> None:
        with pytest.raises(ReadFailed, match="no worker answered within 50 ms"):
            await queue.search(user_id=1, vector=axis(0), timeout=0.05)


async def test_the_connection_of_a_call_that_was_given_up_is_closed(redis_url: str, keys: Keys) -> None:
    """It would still wait for the reply."""
    async with connected(redis_url) as redis:
        calling = asyncio.create_task(call(redis, keys, Info(), Deadline(redis, 20)))
        while not await redis.zcard(keys.search_queue):
            pass
        calling.cancel()
        await asyncio.wait([calling])
        assert await redis.ping()
