"""Hostile jobs do a worker no harm, and its logs contain neither secrets nor personal data."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import traceback
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from arq.constants import result_key_prefix
from arq.jobs import DeserializationError, Job
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import encode_job, partition_of
from memory_worker.contract.errors import DeadLettered, QueueError, ReadFailed
from memory_worker.embedded.engines import start_edge, start_valkey
from memory_worker.runtime.process import WorkerProcess
from memory_worker.telemetry import logs
from memory_worker.wire.arq_records import decode_arq, encode_arq
from memory_worker.wire.call import wait_for_reply
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeSettings, connected, running
from tests.integration.jobs import PARTITIONS, axis, memory
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, unavailable
from tests.integration.web import ask
from tests.tools import arq_client


class Harmful:
    """An object that leaves a file when it is opened as a pickle."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def harm(tmp_path: Path) -> Iterator[Path]:
    """The file that a pickle leaves when it is opened; it must not exist after the test."""
    file = tmp_path / "harm"
    yield file
    assert not file.exists()
    pickle.loads(pickle.dumps(Harmful(file)))
    assert file.exists()  # which shows that opening one leaves the file


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class TestPickles:
    @pytest.fixture
    async def app(self, settings: MakeSettings) -> AsyncIterator[WorkerProcess]:
        """A worker that soon enqueues drain jobs again that a pickle has replaced."""
        async with running(settings(rescue_interval_s=0.05)) as app:
            yield app

    async def works(self, queue: MemoryQueue) -> None:
        """Show that each partition is still drained and that reads are answered."""
        for user_id in range(1, 9):
            receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_1", vector=axis(0))
            await queue.wait_applied(receipt)
            assert len(await queue.search(user_id=user_id, vector=axis(0))) == 1

    async def test_pickles_as_write_jobs_become_dead_letters(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, harm: Path
    ) -> None:
        pickles = [pickle.dumps(Harmful(harm), protocol) for protocol in PROTOCOLS]
        partition = partition_of(1, PARTITIONS)
        bodies = [body for one in pickles for body in (one, encode_job(memory(1, 1)))]
        receipts = await push(redis, keys, PARTITIONS, [(partition, body) for body in bodies])
        for receipt in receipts[::2]:
            with pytest.raises(DeadLettered) as dead_letter:
                await queue.wait_applied(receipt)
            assert dead_letter.value.reason == "malformed"
        for receipt in receipts[1::2]:
            await queue.wait_applied(receipt)
        kept = [dead_letter.body for dead_letter in await all_dead_letters(redis, keys, PARTITIONS)]
        assert kept == pickles
        await self.works(queue)

    async def test_jobs_that_contain_pickles_become_dead_letters(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, harm: Path
    ) -> None:
        evil = pickle.dumps(Harmful(harm))
        good = {"op": "upsert", "user_id": 1, "point_id": "mem_1_1", "vector": axis(0)}
        jobs = [{**good, "payload": {"x": msgspec.msgpack.Ext(code, evil)}} for code in (0, 1, 42, 127)]
        jobs += [{**good, "payload": {"x": evil}}, {**good, "vector": evil}, {**good, "__reduce__": evil}]
        partition = partition_of(1, PARTITIONS)
        for receipt in await push(redis, keys, PARTITIONS, [(partition, msgspec.msgpack.encode(job)) for job in jobs]):
            with pytest.raises(DeadLettered):
                await queue.wait_applied(receipt)
        await self.works(queue)

    async def test_pickles_as_arq_jobs_restart_no_role(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, harm: Path, events: Events
    ) -> None:
        for protocol in PROTOCOLS:
            evil = pickle.dumps({"t": None, "f": "drain", "a": (Harmful(harm),), "k": {}, "et": 0}, protocol)
            for name in (keys.drain_queue, keys.search_queue):
                for job_id in (keys.drain_job_id(0), keys.drain_job_id(1), f"{name}:evil", f"{keys.prefix}-evil"):
                    await redis.set(keys.arq_job(job_id), evil, px=60_000)
                    await redis.zadd(name, {job_id: 1})
            await self.works(queue)
        assert not events.of("role_restarts")

    async def test_pickles_as_results_and_replies_cannot_be_read(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, harm: Path
    ) -> None:
        evil = pickle.dumps({"s": True, "r": Harmful(harm)})
        job_ids = (f"{keys.prefix}-evil", keys.drain_job_id(0), keys.drain_job_id(1))
        for job_id in job_ids:
            await redis.set(result_key_prefix + job_id, evil, px=60_000)
        job = Job(job_ids[0], redis, _queue_name=keys.search_queue, _deserializer=decode_arq)
        with pytest.raises(DeserializationError):
            await job.result(timeout=5, poll_delay=0.01)
        with pytest.raises(DeserializationError):
            await arq_client(redis).all_job_results()
        await redis.rpush(keys.reply("evil"), evil)
        with pytest.raises(QueueError, match="cannot be read"):
            await wait_for_reply(redis, keys.reply("evil"), timeout_s=5)
        await redis.delete(*(result_key_prefix + job_id for job_id in job_ids))
        await self.works(queue)


ARQ_JOB: dict[str, Any] = {"t": None, "f": "drain", "a": (0,), "k": {}, "et": 0}
HOSTILE: dict[bytes, dict[str, Any] | bytes] = {
    b"an id that is not UTF-8: \xff\xfe": ARQ_JOB,
    b"a drain under another id": ARQ_JOB,
    b"no partition": {**ARQ_JOB, "a": ()},
    b"a partition that is a word": {**ARQ_JOB, "a": ("x",)},
    b"a partition that is a list": {**ARQ_JOB, "a": ([1],)},
    b"a function that is a list": {**ARQ_JOB, "f": [1]},
    b"no function": {},
    b"arguments that are a number": {**ARQ_JOB, "a": 5},
    b"options that are a number": {**ARQ_JOB, "k": 5},
    b"a time that is a word": {**ARQ_JOB, "et": "x"},
    b"a try that is a word": {**ARQ_JOB, "t": "x"},
    b"a time far in the future": {**ARQ_JOB, "et": 10**18},
    b"too many tries": {**ARQ_JOB, "t": 2**40},
    b"half a JSON document": b'{"t":1',
}


@pytest.mark.parametrize("queue_name", ["drain", "search"])
async def test_malformed_arq_jobs_are_dropped(
    app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events, queue_name: str
) -> None:
    name, prefix = f"{keys.prefix}:{queue_name}", keys.prefix.encode()
    for job_id, record in HOSTILE.items():
        body = record if isinstance(record, bytes) else encode_arq(record)
        await redis.set(b"arq:job:" + prefix + job_id, body, px=60_000)
        await redis.zadd(name, {prefix + job_id: 1})
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
        assert len(await queue.search(user_id=1, vector=axis(0))) == 1
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while any([await redis.zscore(name, prefix + job_id) is not None for job_id in HOSTILE]):
            await queue.info()
    assert not events.of("role_restarts")


TEXT = "zebra in the bathtub"
QUERY_NUMBERS = [0.73151234, 0.24681234, 0.13571234, 0.97531234, 0.86421234, 0.48261234, 0.62841234, 0.39171234]
VECTOR_NUMBERS = [0.51831234, 0.72941234, 0.83051234, 0.94161234, 0.15271234, 0.26381234, 0.37491234, 0.48511234]
QUERY, VECTOR = (array("f", numbers).tobytes() for numbers in (QUERY_NUMBERS, VECTOR_NUMBERS))
API_KEY = "key-of-the-vector-engine"
PASSWORD = "pass/word of redis"
PERCENT_ENCODED = "pass%2Fword%20of%20redis"

SECRETS = {
    "payload": "zebra",
    "api key": API_KEY,
    "password": PASSWORD,
    "password in a URL": PERCENT_ENCODED,
    **{f"number {number}": str(number)[1:8] for number in (*QUERY_NUMBERS, *VECTOR_NUMBERS)},
    "bytes of the vector": repr(VECTOR[:8])[2:-1],
    "bytes of the query": repr(QUERY[:8])[2:-1],
    "vector in hexadecimal": VECTOR[:8].hex(),
    "vector in base64": msgspec.json.encode(VECTOR)[1:12].decode(),
    "query in base64": msgspec.json.encode(QUERY)[1:12].decode(),
}


TIMES = ("created", "msecs", "relativeCreated", "thread", "process")
"""Numbers that may look like those of a vector."""


class FullLog(logging.Handler):
    """The records of all loggers, as texts of everything that they contain."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.loggers.add(record.name)
        parts = [
            record.getMessage(),
            *(f"{name}={value!r}" for name, value in vars(record).items() if name not in TIMES),
        ]
        if record.exc_info and record.exc_info[1]:
            parts += traceback.format_exception(record.exc_info[1], chain=True)
        parts += [formatter.format(record) for formatter in (logs._TextFormatter(), logs._JsonFormatter())]
        self.texts.append("\n".join(parts))

    def leaks(self) -> list[str]:
        return [f"{what} in {text[:500]}" for what, secret in SECRETS.items() for text in self.texts if secret in text]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[FullLog]:
    """Everything that this process logs at DEBUG with the configuration of a worker."""
    root, full = logging.getLogger(), FullLog()
    levels = {name: logging.getLogger(name).level for name in ("", "arq", "memory_worker", "grpc", "redis", "asyncio")}
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    logs.configure_logs("DEBUG", as_json=False)
    root.addHandler(full)
    yield full
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@asynccontextmanager
async def servers_with_secrets(directory: Path) -> AsyncIterator[tuple[str, str]]:
    """Run a Redis with a password and an engine with an API key; yield their URLs."""
    with start_valkey(directory) as valkey, start_edge(directory, api_key=API_KEY) as edge:
        async with connected(valkey.url) as redis:
            await redis.config_set("requirepass", PASSWORD)
        yield valkey.url, edge.url


def engine_logs(directory: Path) -> list[str]:
    return [file.read_text(encoding="utf-8", errors="replace") for file in directory.glob("*/engine.log*")]


async def pages(events: Events) -> list[str]:
    """Return the HTTP pages of a worker."""
    port, paths = events.of("http")[-1]["port"], ("/livez", "/readyz", "/health", "/metrics")
    answers = [await asyncio.to_thread(ask, port, path) for path in paths]
    return [answer.body.decode() for answer in answers if answer.status in (200, 503)]


async def echo(call: Call) -> Any:
    """Refuse the text with an error that quotes the whole request."""
    if TEXT.encode() in call.request.SerializeToString():
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"cannot store {call.request}")
    return await call.forward()


async def broken(call: Call) -> Any:
    """Fail with an error that quotes the whole request."""
    raise Refusal(grpc.StatusCode.INTERNAL, f"cannot answer {call.request}")


async def test_logs_contain_neither_secrets_nor_personal_data(  # noqa: PLR0915 - one scenario
    log: FullLog, events: Events, settings: MakeSettings, keys: Keys, tmp_path: Path
) -> None:
    async with servers_with_secrets(tmp_path) as (redis_url, edge_url), QdrantProxy(edge_url) as qdrant:
        with_password = redis_url.replace("//", f"//:{PERCENT_ENCODED}@")
        chosen = settings(
            redis_url=SecretStr(redis_url),
            redis_password=SecretStr(PASSWORD),
            qdrant_url=qdrant.url,
            qdrant_api_key=SecretStr(API_KEY),
            rescue_interval_s=0.05,
            log_level="DEBUG",
        )
        logging.getLogger("memory_worker").debug("settings %r", chosen)
        async with (
            running(chosen),
            connected(with_password) as redis,
            MemoryQueue.connect(with_password, prefix=keys.prefix) as queue,
        ):
            payload = {"value": TEXT, "category": "zebras"}
            point: dict[str, Any] = {"user_id": 1, "vector": VECTOR, "payload": payload}

            async def works() -> None:
                receipt = await queue.upsert(point_id="mem_1_1", **point)
                await queue.wait_applied(receipt, timeout=15)
                assert await queue.search(user_id=1, vector=VECTOR, category="zebras", timeout=15)

            await works()
            await queue.search(user_id=1, vector=QUERY)
            await queue.search(user_id=1, vector=QUERY_NUMBERS, kind="document", group_key="zebras")
            assert await queue.get(user_id=1, point_ids=["mem_1_1"])
            await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_1"))
            await queue.wait_applied(await queue.purge(user_id=1, category="zebras"))

            # Dead letters of every kind, in MessagePack and JSON.
            good = {"op": "upsert", "point_id": "mem_1_1", **point}
            wrong = [
                {**good, "vector": VECTOR[:-4]},
                {**good, "vector": [*QUERY_NUMBERS, TEXT]},
                {**good, "vector": TEXT},
                {**good, "point_id": TEXT},
                {**good, "user_id": TEXT},
                {**good, "kind": TEXT},
                {**good, "op": TEXT},
                {**good, "namespace": TEXT},
                {**good, TEXT: 1},
                {**good, "payload": {**payload, "category": [TEXT]}},
                {**good, "payload": {**payload, "user_id": TEXT}},
                {**good, "payload": {**payload, "_point_id": TEXT}},
                {**good, "payload": [TEXT]},
                {"op": "purge", "user_id": 1, "category": TEXT, "kind": "document"},
            ]
            bodies = [encode(job) for encode in (msgspec.msgpack.encode, msgspec.json.encode) for job in wrong]
            bodies += [TEXT.encode(), f'{{"op": "{TEXT}'.encode(), f"{TEXT}\xff".encode("latin-1"), pickle.dumps(TEXT)]
            partition = partition_of(1, PARTITIONS)
            for receipt in await push(redis, keys, PARTITIONS, [(partition, body) for body in bodies]):
                with pytest.raises(DeadLettered):
                    await queue.wait_applied(receipt)
            qdrant.rules[UPDATE] = echo
            with pytest.raises(DeadLettered) as refused:
                await queue.wait_applied(await queue.upsert(point_id="mem_1_1", **point))
            assert refused.value.reason == "refused"
            await events.wait_for("dead_letter", times=len(bodies) + 1)

            # Reads that fail, and malformed arq jobs.
            qdrant.rules["Points/Query"] = broken
            with pytest.raises(ReadFailed):
                await queue.search(user_id=1, vector=QUERY, category="zebras")
            for arguments, options in [
                (({"user_id": 1, "vector": [TEXT]},), {}),
                ((TEXT,), {}),
                ((TEXT, TEXT, TEXT, TEXT), {}),
                (({"user_id": 1, "vector": QUERY},), {"reply_to": TEXT}),
                (({"user_id": 1, "vector": QUERY},), {"reply_to": [TEXT]}),
                (({"user_id": 1, "vector": QUERY},), {"document": TEXT}),
            ]:
                job = await arq_client(redis).enqueue_job(
                    "search", *arguments, _queue_name=keys.search_queue, **options
                )
                assert job is not None
                await job.result_info()
            for job_id, record in {"text": TEXT.encode(), "pickle": pickle.dumps(TEXT)}.items():
                await redis.set(keys.arq_job(job_id), record, px=60_000)
                await redis.zadd(keys.search_queue, {job_id: 1})

            # Outages of both servers.
            qdrant.rules.clear()
            qdrant.rules[UPDATE] = unavailable
            receipt = await queue.upsert(point_id="mem_1_1", **point)
            await events.wait_for("batch_failed", times=2)
            log.texts += await pages(events)
            qdrant.rules.clear()
            await queue.wait_applied(receipt, timeout=15)
            await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await works()
            await redis.config_set("requirepass", "another")
            await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await events.wait_for("role_restarts")
            log.texts += await pages(events)
            await redis.config_set("requirepass", PASSWORD)
            await works()
            log.texts += await pages(events)
    log.texts += engine_logs(tmp_path)
    assert {
        "memory_worker.runtime.process",
        "memory_worker.ingest.record",
        "memory_worker.runtime.arq_workers",
        "asyncio",
    } <= log.loggers
    assert log.leaks() == []


def test_leaks_in_logs_are_found(log: FullLog) -> None:
    logger = logging.getLogger("anything")
    logger.debug("%s", TEXT)
    logger.debug("x", extra={"fields": {"vector": VECTOR}})
    try:
        raise ValueError(PASSWORD)
    except ValueError:
        logger.debug("failed", exc_info=True)
    assert len({re.sub(" in .*", "", leak, flags=re.DOTALL) for leak in log.leaks()}) >= 3
