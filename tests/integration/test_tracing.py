"""Traces through the queue: from an app's span to the request to Qdrant, also after a worker was killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from redis.asyncio import Redis

from memory_worker import SyncMemoryQueue
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, Upsert, encode_job, partition_of
from memory_worker.failpoints import VARIABLE
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.tracing import ids_of, trace_context
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.acceptance.processes import STOP_TIMEOUT_S
from tests.acceptance.processes import WorkerProcess as Process
from tests.integration.conftest import Dead, Events, MakeSettings, Push, running
from tests.integration.jobs import PARTITIONS, axis, memory
from tests.tracing import Spans, id_of, links_of, parent_of, recording, trace_of


@pytest.fixture
def spans(redis_prefix: str) -> Iterator[Spans]:
    with recording(redis_prefix) as spans:
        yield spans


async def ended(spans: Spans, name: str) -> ReadableSpan:
    """Return the only span of this name, once it has ended."""
    await spans.until(lambda: spans.named(name))
    return spans.one(name)


def messages_in(span: ReadableSpan) -> int:
    count = (span.attributes or {}).get("messaging.batch.message_count", 1)
    assert isinstance(count, int)
    return count


async def upserted(queue: MemoryQueue, spans: Spans) -> Receipt:
    with spans.app.start_as_current_span("app"):
        return await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))


class TestWrites:
    async def test_one_trace_leads_from_the_app_to_qdrant(
        self, app: WorkerProcess, queue: MemoryQueue, spans: Spans, shape: CollectionShape
    ) -> None:
        receipt = await upserted(queue, spans)
        processed = await ended(spans, "process QUEUE")
        request, commit = spans.one(f"update_batch {shape.base('memory')}"), spans.one("commit QUEUE")
        sent, push = spans.one("send QUEUE"), spans.one("push")
        own = [spans.one("app"), sent, push, processed, request, commit]
        assert {trace_of(span) for span in own} == {trace_of(own[0])}
        assert [parent_of(span) for span in (sent, push, processed, request, commit)] == [
            id_of(own[0]), id_of(sent), id_of(sent), id_of(processed), id_of(processed)
        ]  # fmt: skip
        assert links_of(processed) == [id_of(sent)]
        assert (processed.attributes or {})["messaging.destination.partition.id"] == str(receipt.partition)
        assert {(span.attributes or {})["messaging.message.id"] for span in (sent, processed)} == {str(receipt)}
        assert (commit.attributes or {})["messaging.operation.type"] == "settle"

    async def test_many_writes_of_one_push_are_one_span(
        self, app: WorkerProcess, queue: MemoryQueue, spans: Spans
    ) -> None:
        with spans.app.start_as_current_span("app"):
            await queue.upsert_many([memory(user, 1) for user in range(1, 21)])
        sent = spans.one("send QUEUE")
        assert (sent.attributes or {})["messaging.batch.message_count"] == 20
        await spans.until(lambda: sum(map(messages_in, spans.named("process QUEUE"))) == 20)
        assert {parent_of(processed) for processed in spans.named("process QUEUE")} == {id_of(sent)}

    async def test_a_blocking_client_sends_its_trace(
        self, app: WorkerProcess, redis_url: str, redis_prefix: str, spans: Spans
    ) -> None:
        def upsert() -> None:
            with (
                SyncMemoryQueue.connect(redis_url, prefix=redis_prefix) as queue,
                spans.app.start_as_current_span("app"),
            ):
                queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))

        await asyncio.to_thread(upsert)
        assert trace_of(await ended(spans, "process QUEUE")) == trace_of(spans.one("app"))

    async def test_the_second_try_after_a_kill_is_in_the_same_trace(
        self, settings: MakeSettings, queue: MemoryQueue, spans: Spans, shape: CollectionShape
    ) -> None:
        chosen = settings()
        names = {"REDIS_URL": "redis_url", "QDRANT_URL": "qdrant_url", "QUEUE_PREFIX": "queue_prefix"}
        names |= {
            f"QDRANT_{kind}_COLLECTION": f"qdrant_{kind.lower()}_collection" for kind in ("MEMORIES", "DOCUMENTS")
        }
        environment = {name: str(getattr(chosen, field)) for name, field in names.items()}
        environment |= {"REDIS_URL": chosen.redis_url.get_secret_value() if chosen.redis_url else ""}
        environment |= {"QDRANT_VECTOR_DIMENSION": str(chosen.qdrant_vector_dimension), "LEASE_TTL_S": "3"}
        environment |= {"QUEUE_PARTITIONS": str(chosen.queue_partitions), "QDRANT_TIMEOUT_S": "1"}
        if chosen.qdrant_api_key:
            environment["QDRANT_API_KEY"] = chosen.qdrant_api_key.get_secret_value()
        doomed = Process("ingest", {**environment, VARIABLE: "sent=kill@1"})
        try:
            await asyncio.to_thread(doomed.wait_for, "started")
            await upserted(queue, spans)
            assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL, doomed.lines
        finally:
            doomed.close()
        async with running(chosen, role="ingest"):
            processed = await ended(spans, "process QUEUE")
        assert parent_of(processed) == id_of(spans.one("send QUEUE"))
        assert trace_of(spans.one(f"update_batch {shape.base('memory')}")) == trace_of(spans.one("app"))


class TestReads:
    async def test_a_read_is_a_child_of_its_caller(
        self, app: WorkerProcess, queue: MemoryQueue, spans: Spans, shape: CollectionShape
    ) -> None:
        with spans.app.start_as_current_span("app"):
            assert await queue.search(user_id=1, vector=axis(0)) == []
        await spans.until(lambda: len(spans.named("search QUEUE")) == 2)
        served, called = sorted(spans.named("search QUEUE"), key=lambda span: span.kind is SpanKind.CLIENT)
        query = spans.one(f"query {shape.base('memory')}")
        assert [parent_of(span) for span in (called, served, query)] == [
            id_of(spans.one("app")), id_of(called), id_of(served)
        ]  # fmt: skip
        assert served.kind is SpanKind.CONSUMER

    async def test_searches_that_are_sent_together_have_a_span_each(
        self, app: WorkerProcess, queue: MemoryQueue, spans: Spans, shape: CollectionShape
    ) -> None:
        with spans.app.start_as_current_span("app"):
            await asyncio.gather(*(queue.search(user_id=user, vector=axis(0)) for user in range(1, 9)))
        await spans.until(lambda: len(spans.named("search QUEUE")) == 16)
        served = {id_of(span) for span in spans.named("search QUEUE") if span.kind is SpanKind.CONSUMER}
        assert {parent_of(span) for span in spans.named(f"query {shape.base('memory')}")} == served


class TestDeadLetters:
    async def test_they_keep_the_trace_and_so_does_a_replay(
        self,
        settings: MakeSettings,
        queue: MemoryQueue,
        redis: Redis,
        keys: Keys,
        spans: Spans,
        dead_letters: Dead,
        events: Events,
    ) -> None:
        async with running(settings(), role="ingest"):
            with spans.app.start_as_current_span("app"):
                await push_unfit(redis, keys)
            [logged] = await events.wait_for("dead_letter")
            sent = spans.one("send QUEUE")
            context = {"trace_id": f"{trace_of(sent):032x}", "span_id": f"{id_of(sent):016x}"}
            assert {name: logged[name] for name in context} == context
            [found] = await dead_letters()
            assert ids_of(found.trace) == context
            header = await (await DeadLetters.open(redis, keys)).header(found.receipt)
            assert header is not None
            assert header.trace == found.trace
            await (await DeadLetters.open(redis, keys)).replay(found.receipt, force=True)
            await events.wait_for("dead_letter", times=2)
            [again] = await dead_letters()
            assert again.receipt != found.receipt
            assert again.trace == found.trace

    async def test_a_trace_that_is_no_trace_is_ignored(
        self,
        app: WorkerProcess,
        redis: Redis,
        keys: Keys,
        pushed: Push,
        dead_letters: Dead,
        events: Events,
        spans: Spans,
    ) -> None:
        for trace in (b"\xff\xfe", b"x" * 1_000_000, b"00-zz"):
            await redis.xadd(keys.stream(0), {"v": 1, "j": b"\xc1", "t": trace})
        await pushed(b"\xc1", partitions=PARTITIONS)
        await events.wait_for("dead_letter", times=4)
        found = await dead_letters()
        assert sorted(one.trace for one in found if not ids_of(one.trace)) == ["", "", "00-zz"]


async def push_unfit(redis: Redis, keys: Keys) -> None:
    job: Any = Upsert(user_id=1, point_id="mem_1_1", vector=b"\0\0\x80\x3f", payload={})
    assert trace_context()
    await push(redis, keys, PARTITIONS, [(partition_of(1, PARTITIONS), encode_job(job))], users=[1])
