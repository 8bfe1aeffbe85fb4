"""Writes by arq's own client: each is stored once and in order with any number of takers. Nothing is lost silently."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import random
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from arq import ArqRedis
from arq.jobs import DeserializationError, Job, JobStatus, ResultNotFound, SerializationError
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import (
    Delete,
    Patch,
    Prune,
    Purge,
    Receipt,
    Upsert,
    WriteJob,
    decode_write,
    encode_job,
    op_of,
    partition_of,
)
from memory_worker.contract.errors import PartitionMismatch, QueueFull, QueueUnavailable
from memory_worker.ingest.arq_jobs import new_entry
from memory_worker.ingest.arq_taker import ArqTaker
from memory_worker.inspection.status import collect_queue
from memory_worker.queue.arq_writes import MAX_WRITES, due_arq_writes, take_over
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.telemetry.metrics import ARQ_WRITES
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.arq_producer import SERIALIZERS, arguments, arq_pool
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, Dead, Events, MakeSettings, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis, chunk, memory
from tests.servers import RedisServer

META = QueueMeta(partitions=PARTITIONS, limits=LIMITS)
LARGEST = 4 * LIMITS.max_job_bytes
WRITES: list[WriteJob] = [
    memory(1, 1, value="old"),
    memory(1, 2, namespace="work", notify=True),
    memory(1, 1, value="new"),
    chunk(2, 88, 0, _version=1),
    Patch(user_id=1, point_ids=["mem_1_1"], set={"value": "patched"}, ref="a patch"),
    Delete(user_id=1, point_ids=["mem_1_2"], namespace="*"),
    Prune(user_id=2, file_id=88, version=2),
    Purge(user_id=3),
]


class Producer:
    """An app with arq's own client, whose job ids contain the prefix of the test.

    Its clock is late, because arq rounds times up, so that a job might not be due yet when a test looks for it.
    """

    def __init__(self, pool: ArqRedis, keys: Keys, serializer: str = "msgpack") -> None:
        self.pool = pool
        self._keys = keys
        self._serializer = serializer

    async def enqueue(self, function: str, *args: Any, **options: Any) -> Job:
        names: dict[str, Any] = {"_job_id": f"{self._keys.prefix}-{uuid.uuid4().hex}"}
        names["_queue_name"] = self._keys.writes_queue
        if "_defer_by" not in options:
            names["_defer_until"] = datetime.now(UTC) - timedelta(seconds=2)
        job = await self.pool.enqueue_job(function, *args, **{**names, **options})
        assert job is not None
        return job

    async def write(self, job: WriteJob, **options: Any) -> Job:
        function, document = arguments(job, self._serializer)
        return await self.enqueue(function, document, **options)

    async def at(self, ms: int, job: WriteJob, job_id: str) -> Job:
        """Enqueue a job as at this time by the clock of the app."""
        due = datetime.fromtimestamp(ms / 1000, UTC)
        return await self.write(job, _defer_until=due, _job_id=f"{self._keys.prefix}-{job_id}", _expires=600)


@pytest.fixture
async def producer(redis_url: str, keys: Keys) -> AsyncIterator[Producer]:
    async with arq_pool(redis_url) as pool:
        yield Producer(pool, keys)


MakeTaker = Callable[..., ArqTaker]


@pytest.fixture
async def taker(redis: Redis, keys: Keys) -> MakeTaker:
    """Make takers of a queue that workers have set up."""
    await publish_meta(redis, keys, META)
    clock = RedisClock()
    await clock.refresh(redis)

    def make(through: Redis = redis) -> ArqTaker:
        return ArqTaker(through, keys, META, clock, poll_s=0.001)

    return make


async def take_all(taker: ArqTaker) -> None:
    while await taker.look():
        pass


async def streams(redis: Redis, keys: Keys) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return the contract version and the job of each entry, by partition."""
    found = {}
    for partition in range(PARTITIONS):
        found[partition] = [(entry[b"v"], entry[b"j"]) for _, entry in await redis.xrange(keys.stream(partition))]
    return found


async def values(redis: Redis, keys: Keys, user_id: int) -> list[str]:
    """Return the values of a user's memories, in the order of the stream."""
    bodies = (await streams(redis, keys))[partition_of(user_id, PARTITIONS)]
    jobs = [decode_write(body) for _, body in bodies]
    return [job.payload["value"] for job in jobs if isinstance(job, Upsert) and job.user_id == user_id]


async def result(job: Job) -> Any:
    return await job.result(timeout=SIGNAL_TIMEOUT_S, poll_delay=0.01)


async def error_of(job: Job) -> str:
    with pytest.raises(SerializationError) as found:
        await result(job)
    return str(found.value)


class TestTakenOver:
    @pytest.mark.parametrize("serializer", SERIALIZERS)
    async def test_a_write_becomes_the_same_entry_as_a_push_of_the_client(
        self, redis: Redis, redis_url: str, keys: Keys, queue: MemoryQueue, taker: MakeTaker, serializer: str
    ) -> None:
        receipts = await queue.push_many(WRITES)
        expected = await streams(redis, keys)
        for partition in range(PARTITIONS):
            await redis.delete(keys.stream(partition))
        async with arq_pool(redis_url, serializer) as pool:
            app = Producer(pool, keys, serializer)
            jobs = [await app.at(1_000 + at, job, f"{at}") for at, job in enumerate(WRITES)]
            await take_all(taker())
            assert await streams(redis, keys) == expected
            found = [Receipt.parse(await result(job)) for job in jobs]
        assert [receipt.partition for receipt in found] == [receipt.partition for receipt in receipts]
        for receipt in found:
            assert await redis.xrange(keys.stream(receipt.partition), receipt.entry_id, receipt.entry_id)

    async def test_nothing_is_left_of_it_but_the_result(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        job = await producer.write(memory(1, 1))
        assert await job.status() is JobStatus.queued
        await taker().look()
        assert await job.status() is JobStatus.complete
        info = await job.result_info()
        assert info is not None
        assert (info.function, info.success, info.queue_name) == ("upsert", True, keys.writes_queue)
        assert 50_000 < await redis.pttl(f"arq:result:{job.job_id}") <= 60_000
        assert not await redis.exists(keys.writes_queue, keys.arq_job(job.job_id))
        totals = await redis.hgetall(keys.backlog)  # type: ignore[misc]
        assert totals == {b"jobs": b"1", b"bytes": b"%d" % len(encode_job(memory(1, 1)))}

    async def test_arguments_may_be_named_and_vectors_lists(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        await producer.enqueue("upsert", user_id=1, point_id="mem_1_1", vector=[1, *[0.0] * 7], payload={"value": "x"})
        await producer.enqueue("purge", user_id=3)
        await take_all(taker())
        entries = [body for bodies in (await streams(redis, keys)).values() for _, body in bodies]
        assert {op_of(job): job for job in map(decode_write, entries)} == {
            "upsert": Upsert(user_id=1, point_id="mem_1_1", vector=axis(0), payload={"value": "x"}),
            "purge": Purge(user_id=3),
        }

    async def test_a_drain_is_woken(self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker) -> None:
        await producer.write(memory(1, 1))
        await taker().look()
        job_id = keys.drain_job_id(partition_of(1, PARTITIONS))
        assert await redis.zrange(keys.drain_queue, 0, -1) == [job_id.encode()]
        assert await redis.exists(keys.arq_job(job_id))
        assert await redis.llen(keys.drain_wakeup) == 1  # type: ignore[misc]

    async def test_a_deferred_write_waits_until_it_is_due(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        job = await producer.write(memory(1, 1), _defer_by=60)
        assert not await taker().look()
        assert await job.status() is JobStatus.deferred
        assert (await collect_queue(redis, keys)).arq_writes_waiting == 0
        await redis.zadd(keys.writes_queue, {job.job_id: 1})
        assert (await collect_queue(redis, keys)).arq_writes_waiting == 1
        assert await taker().look()
        assert (await collect_queue(redis, keys)).arq_writes_waiting == 0

    async def test_an_abort_does_not_stop_a_deferred_write(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        """As the page says: arq makes it due, so it is taken over at once."""
        await producer.write(memory(1, 1), _defer_by=-60)
        job = await producer.write(memory(1, 2), _defer_by=60)
        with pytest.raises(TimeoutError):
            await job.abort(timeout=0)
        assert await taker().look()
        assert await job.abort() is False
        assert Receipt.parse(await job.result())
        entries = await redis.xrange(keys.stream(partition_of(1, PARTITIONS)))
        stored = [decode_write(fields[b"j"]) for _, fields in entries]
        assert [job.point_id for job in stored if isinstance(job, Upsert)] == ["mem_1_2", "mem_1_1"]
        await redis.zrem("arq:abort", job.job_id)

    async def test_an_empty_queue_costs_one_round_trip(
        self, keys: Keys, redis: Redis, taker: MakeTaker, watched: Redis, redis_proxy: Any
    ) -> None:
        await taker().look()  # loads the script
        redis_proxy.words()
        assert not await taker(watched).look()
        assert redis_proxy.words() == ["EVALSHA"]


class TestOrder:
    async def test_due_time_then_job_id_decides(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        for ms, job_id, value in [(3_000, "a", "4"), (1_000, "b", "2"), (1_000, "a", "1"), (2_000, "z", "3")]:
            await producer.at(ms, memory(1, 1, value=value), job_id + value)
        await take_all(taker())
        assert await values(redis, keys, 1) == ["1", "2", "3", "4"]

    async def test_more_than_one_page(self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker) -> None:
        count = 2 * MAX_WRITES + 3
        function, document = arguments(memory(1, 1), "msgpack")
        for at in range(count):
            await producer.enqueue(
                function, {**document, "payload": {"value": str(at)}}, _defer_until=_at(1_000 + at), _expires=60
            )
        await take_all(taker())
        assert await values(redis, keys, 1) == [str(at) for at in range(count)]

    async def test_large_writes_come_in_smaller_pages(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        for at in range(40):
            await producer.at(1_000 + at, memory(1, 1, value=str(at), text="x" * 60_000), str(at))
        writes, _ = await due_arq_writes(redis, keys, largest_bytes=LARGEST)
        assert 10 < len(writes) < 20
        await take_all(taker())
        assert await values(redis, keys, 1) == [str(at) for at in range(40)]


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


class TestTooLarge:
    async def test_only_one_in_a_step(self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker) -> None:
        """The script moves them as they are, so many of them at once would stop Redis for long."""
        for at in range(3):
            await producer.enqueue("upsert", {"payload": "x" * 1_100_000}, _defer_until=_at(1_000 + at), _expires=60)
        sizes = []
        while writes := (await due_arq_writes(redis, keys, largest_bytes=1_000))[0]:
            sizes.append([len(write.record) for write in writes])
            await take_over(redis, keys, PARTITIONS, [new_entry(write, META) for write in writes], now_ms=0)
        assert sizes == [[1]] * 3
        assert await redis.xlen(keys.stream(0)) == 3


class TestSeveralTakers:
    async def test_takers_that_read_the_same_writes_store_each_once(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        """The first has read only part of what the second has read, and comes back from a pause afterwards."""
        for at in range(3):
            await producer.at(1_000 + at, memory(1, 1, value=str(at)), str(at))
        early, _ = await due_arq_writes(redis, keys, largest_bytes=LARGEST)
        await producer.at(2_000, memory(1, 1, value="3"), "3")
        late, _ = await due_arq_writes(redis, keys, largest_bytes=LARGEST)
        taken = []
        for writes in (early[:2], late, early, late):
            entries = [new_entry(write, META) for write in writes]
            taken.append(await take_over(redis, keys, PARTITIONS, entries, now_ms=0))
        assert [[receipt is not None for receipt in one.receipts] for one in taken] == [
            [True, True],
            [False, False, True, True],
            [False, False, False],
            [False, False, False, False],
        ]
        assert await values(redis, keys, 1) == ["0", "1", "2", "3"]
        assert await redis.hget(keys.backlog, "jobs") == b"4"  # type: ignore[misc]

    async def test_a_late_taker_leaves_another_job_under_the_same_id_alone(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        await producer.at(1_000, memory(1, 1, value="a"), "one")
        writes, _ = await due_arq_writes(redis, keys, largest_bytes=LARGEST)
        await taker().look()
        async for key in redis.scan_iter(match=f"arq:result:{keys.prefix}*", count=1000):
            await redis.delete(key)  # it has expired
        await producer.at(1_000, memory(1, 1, value="b"), "one")  # as long as the other
        taken = await take_over(redis, keys, PARTITIONS, [new_entry(write, META) for write in writes], now_ms=0)
        assert taken.receipts == [None]
        assert await values(redis, keys, 1) == ["a"]
        await taker().look()
        assert await values(redis, keys, 1) == ["a", "b"]

    async def test_random_jobs_of_some_users_are_stored_once_and_in_order(
        self, redis: Redis, redis_url: str, keys: Keys, producer: Producer, taker: MakeTaker, seed: int
    ) -> None:
        """Three takers run while apps enqueue. Takers are cancelled at any moment, and started again."""
        chance = random.Random(seed)
        users, jobs_each = range(1, 9), 60

        async def app(user: int) -> list[Job]:
            jobs = []
            for number in range(jobs_each):
                text = "x" * chance.choice((1, 100, 30_000))
                job = memory(user, number % 3, value=str(number), text=text)
                # The id decides the order of writes within one millisecond.
                jobs.append(await producer.write(job, _job_id=f"{keys.prefix}-{user}-{number:06}"))
            return jobs

        done = asyncio.Event()

        async def take(through: Redis, longest_s: float) -> None:
            while not done.is_set():
                task = asyncio.create_task(taker(through).run())
                await asyncio.wait([task, ended], timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
                while not task.done():
                    task.cancel()
                    await asyncio.wait([task], timeout=0.1)

        async with connected(redis_url) as one, connected(redis_url) as two, connected(redis_url) as three:
            ended = asyncio.create_task(done.wait())
            takers = [asyncio.create_task(take(*options)) for options in ((one, 0.01), (two, 0.03), (three, 60.0))]
            try:
                enqueued = await asyncio.gather(*map(app, users))
                receipts = [Receipt.parse(await result(job)) for jobs in enqueued for job in jobs]
            finally:
                done.set()
                await asyncio.gather(*takers)
        assert len(set(receipts)) == len(users) * jobs_each
        for user in users:
            assert await values(redis, keys, user) == [str(number) for number in range(jobs_each)]
        assert await redis.hget(keys.backlog, "jobs") == b"%d" % len(receipts)  # type: ignore[misc]


class TestFull:
    @pytest.mark.parametrize("limit", ["jobs", "bytes"])
    async def test_writes_wait_in_order_while_the_queue_is_full(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker, limit: str
    ) -> None:
        large = len(encode_job(memory(1, 1, value="2", text="x" * 5_000)))
        limits = {"max_jobs": 2} if limit == "jobs" else {"max_bytes": large}
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS, **limits))
        for at, text in enumerate(("", "", "x" * 5_000, "")):  # the last one would have room
            await producer.at(1_000 + at, memory(1, 1, value=str(at), text=text), str(at))
        with pytest.raises(QueueFull, match=limit):
            await taker().look()
        assert await values(redis, keys, 1) == ["0", "1"]
        assert (await collect_queue(redis, keys)).arq_writes_waiting == 2
        await publish_meta(redis, keys, META)
        await take_all(taker())
        assert await values(redis, keys, 1) == ["0", "1", "2", "3"]

    async def test_writes_wait_while_redis_is_full(self, own_redis: RedisServer, keys: Keys) -> None:
        async with connected(own_redis.url) as redis, arq_pool(own_redis.url) as pool:
            await publish_meta(redis, keys, META)
            jobs = [await Producer(pool, keys).write(memory(1, 1, value=str(at))) for at in range(3)]
            taker = ArqTaker(redis, keys, META, RedisClock(), poll_s=1)
            await redis.config_set("maxmemory", 1)
            with pytest.raises(QueueUnavailable, match="full"):
                await taker.look()
            assert await redis.zcard(keys.writes_queue) == 3
            assert [await job.status() for job in jobs] == [JobStatus.queued] * 3
            assert not await redis.exists(keys.stream(partition_of(1, PARTITIONS)), keys.backlog)
            await redis.config_set("maxmemory", 0)
            await take_all(taker)
            assert sorted(await values(redis, keys, 1)) == ["0", "1", "2"]

    async def test_another_number_of_partitions_stores_nothing(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker
    ) -> None:
        await producer.write(memory(1, 1))
        [write], _ = await due_arq_writes(redis, keys, largest_bytes=LARGEST)
        with pytest.raises(PartitionMismatch):
            await take_over(redis, keys, 2 * PARTITIONS, [new_entry(write, META)], now_ms=0)
        assert await redis.zcard(keys.writes_queue) == 1
        await take_all(taker())
        assert await redis.xlen(keys.stream(partition_of(1, PARTITIONS))) == 1


GOOD = {"user_id": 1, "point_id": "mem_1_1", "vector": axis(0)}
BARE_JOB = {"op": "upsert", **GOOD}
TOO_LARGE = {**GOOD, "payload": {"value": "x" * 70_000}}
Refused = tuple[str, tuple[Any, ...], dict[str, Any], str, str, str | None]
REFUSED: list[Refused] = [
    # function, arguments, named arguments, error, reason of the log, op of the dead letter
    ("remember", ({"x": 1},), {}, "'remember' is none of upsert, delete", "unknown_function", None),
    ("search", (GOOD,), {}, "'search' is none of upsert, delete", "unknown_function", None),
    ("upsert", (), {}, "user_id: object missing required field", "invalid", None),
    ("upsert", (GOOD, {}), {}, "expected one map, or named arguments only, got 2", "invalid", None),
    ("upsert", (GOOD,), {"ref": "x"}, "got 1 arguments and 1 named", "invalid", None),
    ("upsert", ("text",), {}, "expected a map, got str", "invalid", None),
    ("delete", (BARE_JOB,), {}, "op: differs from the function 'delete'", "invalid", None),
    ("upsert", ({**GOOD, "extra": 1},), {}, "extra: object contains unknown field", "invalid", None),
    ("upsert", ({**GOOD, "vector": axis(0)[:-4]},), {}, "vector: ", "invalid", "upsert"),
    ("upsert", ({**GOOD, "point_id": "mem_2_1"},), {}, "point_id: ", "invalid", "upsert"),
    ("upsert", ({**GOOD, "kind": "memori"},), {}, "kind: 'memori' is none of", "invalid", None),
    ("upsert", (TOO_LARGE,), {}, "job: at most 65,536 bytes are allowed", "invalid", "upsert"),
    ("upsert", ({**GOOD, "payload": {"value": "x" * LARGEST}},), {}, "as arq's job, got", "too_large", None),
    ("purge", (), {"user_id": 1, "file_id": None}, "file_id: must not be null", "invalid", None),
]

NO_RECORDS = [
    b"\xc1 nothing",
    b"{half",
    msgspec.msgpack.encode(BARE_JOB),
    msgspec.json.encode({"t": None, "f": 5, "a": [], "k": {}, "et": 0}),
    msgspec.json.encode({"t": None, "f": "purge", "a": [{"user_id": 1}], "k": {}, "et": 10**30}),
    b'{"t":null,"f":"purge","a":[{"user_id":1}],"k":[],"et":0}',
    b"[" * 10_000,
]


class TestRefused:
    async def test_a_wrong_write_has_an_error_and_becomes_a_dead_letter(
        self, app: WorkerProcess, producer: Producer, queue: MemoryQueue, dead_letters: Dead, events: Events
    ) -> None:
        for wrong, (function, args, named, error, reason, op) in enumerate(REFUSED, 1):
            job = await producer.enqueue(function, *args, **named)
            good = await producer.write(memory(1, 2))
            assert error in await error_of(job)
            await queue.wait_applied(Receipt.parse(await result(good)))
            logged = (await events.wait_for("arq_write_refused", times=wrong))[-1]
            assert (logged["job"], logged["reason"]) == (job.job_id, reason)
            await events.wait_for("dead_letter", times=wrong)
            (dead,) = (one for one in await dead_letters() if str(one.receipt) == logged["receipt"])
            assert dead.op == (op or "")
            if reason != "too_large" and "kind" not in error:
                assert error in dead.detail

    async def test_a_pickled_write_is_never_unpickled(
        self, app: WorkerProcess, redis: Redis, redis_url: str, keys: Keys, events: Events, dead_letters: Dead
    ) -> None:
        async with arq_pool(redis_url, None) as pool:
            job = await Producer(pool, keys).enqueue("upsert", GOOD)
            with pytest.raises(DeserializationError):  # its own deserializer can read no result of ours
                await result(job)
            assert await job.status() is JobStatus.complete
        readable = json.loads(await redis.get(f"arq:result:{job.job_id}") or b"")
        assert readable["r"].startswith("InvalidJob: job: the job is pickled")
        assert "job_serializer=msgspec.msgpack.encode" in readable["r"]
        [logged] = await events.wait_for("arq_write_refused")
        assert logged["reason"] == "pickled"
        await events.wait_for("dead_letter")
        [dead] = await dead_letters()
        assert pickle.loads(dead.body)["f"] == "upsert"  # the record itself
        assert dead.detail in readable["r"]

    async def test_what_is_no_job_of_arq_becomes_a_dead_letter_and_is_not_applied(
        self, app: WorkerProcess, redis: Redis, keys: Keys, events: Events, dead_letters: Dead
    ) -> None:
        for wrong, record in enumerate(NO_RECORDS, 1):
            job_id = f"{keys.prefix}-\udcff-{wrong}".encode(errors="surrogateescape")
            await redis.set(b"arq:job:" + job_id, record, px=60_000)
            await redis.zadd(keys.writes_queue, {job_id: 1})
            logged = (await events.wait_for("arq_write_refused", times=wrong))[-1]
            assert logged["reason"] == "malformed"
            await events.wait_for("dead_letter", times=wrong)
            (dead,) = (one for one in await dead_letters() if str(one.receipt) == logged["receipt"])
            assert dead.reason == "malformed"
            assert record in dead.body

    async def test_a_write_whose_record_has_expired_is_counted_and_logged(
        self, redis: Redis, keys: Keys, producer: Producer, taker: MakeTaker, events: Events
    ) -> None:
        before = ARQ_WRITES.labels("expired")._value.get()
        lost = await producer.write(memory(1, 1, value="lost"))
        await producer.write(memory(1, 2, value="kept"))
        await redis.delete(keys.arq_job(lost.job_id))
        await take_all(taker())
        assert await values(redis, keys, 1) == ["kept"]
        assert events.of("arq_writes_expired") == [{"jobs": 1, "ids": [lost.job_id]}]
        assert ARQ_WRITES.labels("expired")._value.get() == before + 1
        assert await redis.zcard(keys.writes_queue) == 0


class TestWorker:
    @pytest.mark.parametrize("serializer", SERIALIZERS)
    async def test_all_writes_are_applied(
        self,
        app: WorkerProcess,
        redis_url: str,
        keys: Keys,
        queue: MemoryQueue,
        shape: CollectionShape,
        engine: Contents,
        serializer: str,
    ) -> None:
        async with arq_pool(redis_url, serializer) as pool:
            producer = Producer(pool, keys, serializer)
            past = int((datetime.now(UTC) - timedelta(seconds=10)).timestamp() * 1000)
            jobs = [await producer.at(past + at, job, str(at)) for at, job in enumerate(WRITES)]
            for job in jobs:
                await queue.wait_applied(Receipt.parse(await result(job)))
        stored = engine.payloads(shape.base("memory"))
        assert {point: payload["value"] for point, payload in stored.items()} == {"mem_1_1": "patched"}
        assert engine.points(f"{shape.base('memory')}_work") == set()
        assert engine.points(shape.base("document")) == set()

    async def test_a_process_may_leave_them_to_others(
        self, settings: MakeSettings, redis: Redis, keys: Keys, producer: Producer, queue: MemoryQueue
    ) -> None:
        async with running(settings(arq_writes_poll_ms=0)), running(settings(), role="search"):
            job = await producer.write(memory(1, 1))
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0)))
            assert (await collect_queue(redis, keys)).arq_writes_waiting == 1
            async with running(settings(), role="ingest"):
                await queue.wait_applied(Receipt.parse(await result(job)))

    async def test_writes_that_cannot_be_taken_over_are_logged(
        self, settings: MakeSettings, queue: MemoryQueue, producer: Producer, events: Events
    ) -> None:
        async with running(settings(queue_max_jobs=1, worker_role="ingest")):
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0)))
            await push_dead_letter(queue, events)
            job = await producer.write(memory(1, 1))
            [logged, *_] = await events.wait_for("arq_writes_wait")
            assert "at most 1 jobs may wait" in logged["error"]
            assert await job.status() is JobStatus.queued


async def push_dead_letter(queue: MemoryQueue, events: Events) -> None:
    """Fill a queue of one job with a dead letter."""
    connections = queue._producer.open()
    await push(connections.redis, queue._producer._keys, PARTITIONS, [(0, b"\xc1")])
    await events.wait_for("dead_letter")


class TestForeignJobs:
    async def test_a_write_in_another_queue_of_ours_is_applied(
        self, app: WorkerProcess, keys: Keys, producer: Producer, queue: MemoryQueue, events: Events
    ) -> None:
        wrong = (keys.drain_queue, keys.search_queue, keys.admin_queue)
        for at, name in enumerate(wrong, 1):
            job = await producer.write(memory(1, at), _queue_name=name)
            moved = Job(job.job_id, producer.pool, keys.writes_queue, msgspec.msgpack.decode)
            logged = await events.wait_for("foreign_jobs_moved", times=at)
            assert [one["queue"] for one in logged] == [*wrong[:at]]
            await queue.wait_applied(Receipt.parse(await result(moved)))

    @pytest.mark.parametrize("serializer", ["msgpack", "json", "msgspec.json"])
    async def test_json_writes_are_recognized_in_a_queue_of_reads(
        self, app: WorkerProcess, redis_url: str, keys: Keys, events: Events, serializer: str
    ) -> None:
        async with arq_pool(redis_url, serializer) as pool:
            await Producer(pool, keys, serializer).write(memory(1, 1), _queue_name=keys.search_queue)
            assert await events.wait_for("foreign_jobs_moved") == [{"queue": keys.search_queue, "jobs": 1}]

    async def test_an_unknown_function_is_refused(
        self, app: WorkerProcess, keys: Keys, producer: Producer, events: Events, dead_letters: Dead
    ) -> None:
        """In the queue of drains and in that of writes it becomes a dead letter; on those of reads it has an error."""
        on_drains = await producer.enqueue("remember", 1, _queue_name=keys.drain_queue)
        await events.wait_for("dead_letter")
        with contextlib.suppress(ResultNotFound):
            assert "'remember' is none of" in await error_of(on_drains)
        [dead] = await dead_letters()
        assert msgspec.msgpack.decode(dead.body)["f"] == "remember"
        for name in (keys.search_queue, keys.admin_queue):
            assert "there is no read job 'remember'" in await error_of(
                await producer.enqueue("remember", 1, _queue_name=name)
            )
        assert len(await dead_letters()) == 1
