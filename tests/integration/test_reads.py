"""Read jobs: which points are found, and which errors are returned."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import grpc
import msgspec
import pytest
from arq.constants import result_key_prefix
from arq.jobs import DeserializationError, Job, SerializationError
from redis.asyncio import Redis

from memory_worker.client.admin_queue import AdminQueue
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Get, Info, Reply, Search
from memory_worker.contract.errors import InvalidJob, ReadFailed
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.call import enqueue_call, wait_for_reply
from memory_worker.wire.keys import Keys
from tests.arq_producer import SERIALIZERS, arq_pool
from tests.integration.conftest import Contents, MakeSettings, Stored, running
from tests.integration.jobs import axis, chunk, memory
from tests.integration.proxies import Call, QdrantProxy, failing, never_answer
from tests.tools import arq_client


async def ids(queue: MemoryQueue, **search: Any) -> list[str]:
    return [hit.point_id for hit in await queue.search(**{"user_id": 1, "vector": axis(0), **search})]


class TestSearch:
    async def test_a_search_finds_memories_of_its_user_only(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(memory(1, 1), memory(2, 1), memory(11, 1))
        assert await ids(queue) == ["mem_1_1"]
        assert await ids(queue, user_id=2) == ["mem_2_1"]
        assert await ids(queue, user_id=3) == []

    async def test_hits_are_sorted_by_score_and_limited_by_it(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(memory(1, number, tilt=number / 2) for number in (3, 0, 2, 1)), memory(1, 9, at=4))
        hits = await queue.search(user_id=1, vector=axis(0))
        assert [hit.point_id for hit in hits] == ["mem_1_0", "mem_1_1", "mem_1_2"]  # the default is 0.7
        expected = [1 / (1 + (number / 2) ** 2) ** 0.5 for number in (0, 1, 2)]
        assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)
        assert await ids(queue, min_score=0.8) == ["mem_1_0", "mem_1_1"]
        assert await ids(queue, min_score=0.5) == ["mem_1_0", "mem_1_1", "mem_1_2", "mem_1_3"]
        assert len(await ids(queue, min_score=-1)) == 5

    async def test_a_search_has_a_default_limit_and_a_maximum(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(memory(1, number) for number in range(120)), *(chunk(1, 5, number) for number in range(15)))
        assert len(await ids(queue)) == 5
        assert len(await ids(queue, kind="document")) == 10
        assert len(await ids(queue, limit=1)) == 1
        assert len(await ids(queue, limit=100)) == 100

    async def test_a_search_of_memories_is_narrowed(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(
            memory(1, 1, category="a"),
            memory(1, 2, category="b"),
            memory(1, 3, category="a", active=False),
            memory(1, 4, category="a", namespace="n"),
        )
        assert set(await ids(queue)) == {"mem_1_1", "mem_1_2"}
        assert await ids(queue, category="a") == ["mem_1_1"]
        assert await ids(queue, category="c") == []
        assert await ids(queue, namespace="n") == ["mem_1_4"]
        assert await ids(queue, namespace="n", category="b") == []

    async def test_a_search_of_documents_is_narrowed(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(
            chunk(1, 5, 0, group_key="g", tilt=1),
            chunk(1, 5, 1, group_key="h"),
            chunk(1, 6, 0, group_key="g"),
            chunk(2, 5, 0, group_key="g"),
        )
        assert len(await ids(queue, kind="document")) == 3
        assert await ids(queue, kind="document", group_key="g") == ["doc_1_6_0", "doc_1_5_0"]
        assert await ids(queue, kind="document", file_id=5) == ["doc_1_5_1", "doc_1_5_0"]
        assert await ids(queue, kind="document", file_id=5, group_key="g") == ["doc_1_5_0"]

    async def test_points_with_older_ids_are_found(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.insert(shape.base("memory"), 77, [1.0] + [0.0] * 7, user_id=1, active=True, _point_id="mem_1_77")
        engine.insert(shape.base("memory"), 78, [1.0] + [0.0] * 7, user_id=1, active=True, value="of unknown id")
        assert set(await ids(queue)) == {"mem_1_77", "78"}

    async def test_an_unused_namespace_is_empty(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        assert await ids(queue, namespace="never-used") == []
        assert await queue.get(user_id=1, point_ids=["mem_1_1"], namespace="never-used") == []


class TestGet:
    async def test_points_are_returned_in_the_requested_order(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(memory(1, number, value=str(number)) for number in range(5)))
        wanted = ["mem_1_4", "mem_1_99", "mem_1_0", "mem_1_2", "mem_1_0"]
        found = await queue.get(user_id=1, point_ids=wanted)
        assert [(point.point_id, point.payload["value"]) for point in found] == [
            ("mem_1_4", "4"),
            ("mem_1_0", "0"),
            ("mem_1_2", "2"),
        ]

    async def test_inactive_points_and_points_with_older_ids_are_returned(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1, active=False))
        engine.insert(shape.base("memory"), 77, [1.0] * 8, user_id=1, _point_id="mem_1_77")
        found = await queue.get(user_id=1, point_ids=["mem_1_77", "mem_1_1"])
        assert [point.point_id for point in found] == ["mem_1_77", "mem_1_1"]

    async def test_a_point_of_another_user_is_not_returned(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.insert(shape.base("memory"), 77, [1.0] * 8, user_id=2, _point_id="mem_1_77")
        assert await queue.get(user_id=1, point_ids=["mem_1_77"]) == []

    async def test_a_thousand_points_are_returned(self, app: WorkerProcess, queue: MemoryQueue, stored: Stored) -> None:
        await stored(*(memory(1, number) for number in range(1000)))
        wanted = [f"mem_1_{number}" for number in reversed(range(1000))]
        assert [point.point_id for point in await queue.get(user_id=1, point_ids=wanted)] == wanted

    async def test_vectors_are_returned_as_bytes(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, redis: Redis, keys: Keys
    ) -> None:
        await stored(
            memory(1, 1, tilt=1), memory(1, 2, namespace="n"), *(memory(1, number) for number in range(3, 260))
        )
        (point,) = await queue.get(user_id=1, point_ids=["mem_1_1"], vectors=True, fields=["active"])
        assert (point.payload, point.namespace) == ({"active": True}, None)
        assert list(memoryview(point.vector or b"").cast("f")) == pytest.approx([0.5**0.5, 0.5**0.5] + [0] * 6)
        (point,) = await queue.get(user_id=1, point_ids=["mem_1_2"], namespace="n", vectors=True)
        assert (point.vector, point.namespace) == (axis(0), "n")
        (point,) = await queue.get(user_id=1, point_ids=["mem_1_1"])
        assert point.vector is None
        wanted = [f"mem_1_{number}" for number in range(3, 253)]
        assert [point.vector for point in await queue.get(user_id=1, point_ids=wanted, vectors=True)] == [axis(0)] * 250
        with pytest.raises(InvalidJob, match="at most 250 are allowed with vectors"):
            await queue.get(user_id=1, point_ids=[*wanted, "mem_1_1"], vectors=True)
        reply_to = keys.reply(uuid.uuid4().hex)
        document = {"user_id": 1, "point_ids": ["mem_1_3"], "vectors": True}
        await enqueue(redis, keys, "get", document, reply_to=reply_to, reply_json=True)
        _, body = await redis.blpop([reply_to], 10)  # type: ignore[misc]
        assert base64.b64decode(json.loads(body)["points"][0]["vector"]) == axis(0)


async def enqueue(redis: Redis, keys: Keys, name: str, *args: Any, **options: Any) -> Job:
    """Enqueue a read job as a plain arq client does, with an id that contains the prefix of the test."""
    job_id = f"{keys.prefix}-{uuid.uuid4().hex}"
    job = await arq_client(redis).enqueue_job(name, *args, _queue_name=keys.search_queue, _job_id=job_id, **options)
    assert job is not None
    return job


async def ask(redis: Redis, keys: Keys, name: str, document: dict[str, Any], **options: Any) -> tuple[Job, Reply]:
    """Enqueue a read job as a plain arq client does, and decode the reply."""
    job = await enqueue(redis, keys, name, document, **options)
    return job, msgspec.convert(await job.result(timeout=10, poll_delay=0.01), Reply)


class TestPlainArq:
    async def test_a_plain_arq_client_gets_the_same_replies(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, redis: Redis, keys: Keys
    ) -> None:
        await stored(memory(1, 1, value="x", tilt=0.1), memory(1, 2))
        vector = [1.0] + [0.0] * 7
        job, reply = await ask(redis, keys, "search", {"op": "search", "user_id": 1, "vector": vector, "limit": 2})
        assert reply.ok
        assert reply.hits == await queue.search(user_id=1, vector=vector)
        assert [hit.point_id for hit in reply.hits or []] == ["mem_1_2", "mem_1_1"]
        assert reply.engine_ms > 0

        _, reply = await ask(redis, keys, "get", {"user_id": 1, "point_ids": ["mem_1_2"]})
        assert reply.points == await queue.get(user_id=1, point_ids=["mem_1_2"])
        _, reply = await ask(redis, keys, "info", {})
        assert reply.collections == await queue.info()

        info = await job.result_info()
        assert info is not None
        assert info.success
        assert await redis.pttl(result_key_prefix + job.job_id) <= 60_000

    @pytest.mark.parametrize("serializer", SERIALIZERS)
    async def test_every_read_has_the_reply_of_the_client_in_the_serializer_of_the_job(
        self,
        app: WorkerProcess,
        queue: MemoryQueue,
        stored: Stored,
        redis_url: str,
        redis_prefix: str,
        keys: Keys,
        serializer: str,
    ) -> None:
        await stored(memory(1, 1, value="x", tilt=0.1), memory(1, 2), chunk(1, 88, 0, group_key="WORK"))
        vector = [1.0, *[0.0] * 7] if serializer == "json" else axis(0)
        ids, one_file = ["mem_1_1", "mem_1_2"], {"kind": "document", "file_id": 88}
        async with (
            arq_pool(redis_url, serializer) as pool,
            AdminQueue.connect(redis_url, prefix=redis_prefix) as admin,
        ):

            async def ask(name: str, queue_name: str = keys.search_queue, **job: Any) -> Reply:
                """Enqueue a read as one map, then by named arguments, with the same answer."""
                found = []
                for args, named in (((job,), {}), ((), job)):
                    asked = await pool.enqueue_job(
                        name, *args, **named, _queue_name=queue_name, _job_id=f"{keys.prefix}-{uuid.uuid4().hex}"
                    )
                    assert asked is not None
                    answer = await asked.result(timeout=10, poll_delay=0.01)
                    assert 0 <= answer.get("queue_ms", 0) <= answer["total_ms"]
                    for name_of_time in ("engine_ms", "queue_ms", "total_ms"):
                        answer.pop(name_of_time, None)
                    found.append(msgspec.convert(answer, Reply))
                assert found[0].ok
                if name not in ("health", "info"):
                    assert found[0] == found[1]
                return found[0]

            hits = await queue.search(user_id=1, vector=axis(0))
            assert (await ask("search", user_id=1, vector=vector)).hits == hits
            searches = (await ask("search_many", searches=[{"user_id": 1, "vector": vector}])).results
            assert searches is not None
            assert [one.hits for one in searches] == [hits]
            assert (await ask("get", user_id=1, point_ids=ids)).points == await queue.get(user_id=1, point_ids=ids)
            assert (await ask("list", user_id=1)).points == (await queue.list(user_id=1)).points
            assert (await ask("count", user_id=1)).count == 2
            facet = await queue.facet(user_id=1, by="category")
            assert (await ask("facet", user_id=1, by="category")).facet == facet
            assert (await ask("files", user_id=1)).files == await queue.files(user_id=1)
            assert (await ask("stats", user_id=1)).stats == await queue.stats(user_id=1)
            assert (await ask("count", user_id=1, **one_file)).count == 1
            assert {info.points for info in (await ask("info")).collections or []} == {2, 1}
            assert (await ask("health")).health is not None
            assert (await ask("list_all", keys.admin_queue)).points == (await admin.list()).points
            assert (await ask("count_all", keys.admin_queue)).count == 2
            assert (await ask("facet_all", keys.admin_queue, by="user_id")).facet == await admin.facet("user_id")

    async def test_a_job_with_wrong_arguments_has_an_error(
        self, app: WorkerProcess, redis: Redis, redis_url: str, keys: Keys
    ) -> None:
        async with arq_pool(redis_url, "json") as pool:
            for args, named in ((({}, {}), {}), (({},), {"user_id": 1})):
                job = await pool.enqueue_job("count", *args, **named, _queue_name=keys.search_queue)
                assert job is not None
                with pytest.raises(SerializationError, match="expected one map, or named arguments only"):
                    await job.result(timeout=10, poll_delay=0.01)

    async def test_a_pickled_job_is_refused_in_text_that_an_operator_can_read(
        self, app: WorkerProcess, redis: Redis, redis_url: str, keys: Keys
    ) -> None:
        async with arq_pool(redis_url, None) as pool:
            job = await pool.enqueue_job("info", _queue_name=keys.search_queue)
            assert job is not None
            with pytest.raises(DeserializationError):
                await job.result(timeout=10, poll_delay=0.01)
        record = json.loads(await redis.get(result_key_prefix + job.job_id) or b"")
        assert "job_serializer=msgspec.msgpack.encode" in record["r"]

    async def test_a_result_contains_no_vector(
        self, app: WorkerProcess, stored: Stored, redis: Redis, keys: Keys
    ) -> None:
        await stored(memory(1, 1))
        vector = axis(0, tilt=0.123)
        job, reply = await ask(redis, keys, "search", {"user_id": 1, "vector": vector})
        assert reply.ok
        kept = await redis.get(result_key_prefix + job.job_id)
        assert kept is not None
        assert vector not in kept
        record = decode_arq(kept)
        assert (record["a"], record["k"]) == ([], {})

    async def test_a_job_in_json_is_answered(
        self, app: WorkerProcess, stored: Stored, redis: Redis, keys: Keys
    ) -> None:
        await stored(memory(1, 1))
        document = {"op": "search", "user_id": 1, "vector": [1] + [0] * 7}
        record = {"t": None, "f": "search", "a": [document], "k": {}, "et": 0}
        job_id = f"{keys.prefix}-by-hand"
        await redis.set(keys.arq_job(job_id), json.dumps(record), px=60_000)
        await redis.zadd(keys.search_queue, {job_id: time.time() * 1000})
        job = Job(job_id, redis, _queue_name=keys.search_queue, _deserializer=decode_arq)
        reply = msgspec.convert(await job.result(timeout=10, poll_delay=0.01), Reply)
        assert [hit.point_id for hit in reply.hits or []] == ["mem_1_1"]


class TestErrors:
    async def test_an_invalid_job_gets_an_error_that_names_the_field(
        self, app: WorkerProcess, redis: Redis, keys: Keys
    ) -> None:
        for name, document, field in [
            ("search", {"user_id": 1, "vector": [1.0]}, "vector"),
            ("get", {"user_id": 1, "point_ids": ["mem_1_1", "mem_2_1"]}, "point_ids[1]"),
            ("info", {"timeout_ms": 0}, "timeout_ms"),
        ]:
            _, reply = await ask(redis, keys, name, document)
            assert (reply.ok, reply.hits, reply.points, reply.collections) == (False, None, None, None)
            assert reply.error is not None
            assert reply.error.code == "invalid"
            assert reply.error.message.startswith(f"{field}: ")

    async def test_a_job_that_waited_too_long_gets_a_timeout(
        self, app: WorkerProcess, redis: Redis, keys: Keys
    ) -> None:
        document = {"user_id": 1, "vector": axis(0), "timeout_ms": 2_000}
        ago = datetime.now(UTC) - timedelta(seconds=3)
        _, reply = await ask(redis, keys, "search", document, _defer_until=ago, _expires=60)
        assert reply.error is not None
        assert (reply.error.code, reply.error.message) == ("timeout", "the job waited longer than its 2000 ms")

    async def test_an_error_of_qdrant_becomes_an_error_code(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy
    ) -> None:
        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            for code, expected in {
                "UNAVAILABLE": "unavailable",
                "INTERNAL": "unavailable",
                "UNAUTHENTICATED": "unavailable",
                "NOT_FOUND": "unavailable",
                "DEADLINE_EXCEEDED": "timeout",
                "INVALID_ARGUMENT": "invalid",
            }.items():
                qdrant_proxy.rules["Points/Query"] = failing(grpc.StatusCode[code])
                with pytest.raises(ReadFailed) as failed:
                    await queue.search(user_id=1, vector=axis(0))
                assert failed.value.code == expected, code
            qdrant_proxy.rules["Points/Query"] = never_answer
            with pytest.raises(ReadFailed, match="timeout"):
                await queue.search(user_id=1, vector=axis(0), timeout=0.3)
            qdrant_proxy.rules.clear()
            assert await queue.search(user_id=1, vector=axis(0)) == []

    async def test_a_reply_to_another_key_is_not_sent(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        job = await enqueue(redis, keys, "info", {}, reply_to=keys.stream(0))
        with pytest.raises(Exception, match="a reply may only go"):
            await job.result(timeout=10, poll_delay=0.01)
        assert not await redis.exists(keys.stream(0))
        assert await queue.info()


SMALL, MOST = 65_536, 200_000


@pytest.fixture
async def bounded(settings: MakeSettings, qdrant_proxy: QdrantProxy) -> AsyncIterator[WorkerProcess]:
    """A search worker with memory for one large answer at a time."""
    bounds = {"read_max_bytes": MOST, "read_budget_bytes": 2 * MOST, "replies_max_bytes": 2 * MOST}
    async with running(settings(**bounds, qdrant_url=qdrant_proxy.url), role="search") as started:
        yield started


@pytest.fixture
async def large(store: VectorStore) -> list[str]:
    """Store twenty points of user 1, of 15 kB each; return their ids."""
    await store.prepare()
    for first in range(0, 20, 4):
        points = [memory(1, number, value='"' * 15_000) for number in range(first, first + 4)]
        await store.apply(CollectionRef("memory"), [UpsertPoints(points)], timeout_s=5)
    return [f"mem_1_{number}" for number in range(20)]


class TestLargeAnswers:
    """Answers have a limit of bytes, each of them and all together."""

    async def test_an_answer_that_is_too_large_is_refused(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str]
    ) -> None:
        message = rf"too_large: the answer has 30\d,\d+ bytes, READ_MAX_BYTES allows {MOST:,}: ask for fewer points"
        with pytest.raises(ReadFailed, match=message):
            await queue.get(user_id=1, point_ids=large)
        with pytest.raises(ReadFailed, match=message):
            await queue.search(user_id=1, vector=axis(0), limit=20)
        assert len(await queue.get(user_id=1, point_ids=large[:12])) == 12
        assert len(await queue.search(user_id=1, vector=axis(0), limit=12)) == 12

    async def test_the_limit_counts_the_json_of_a_reply(
        self, bounded: WorkerProcess, redis: Redis, keys: Keys, large: list[str]
    ) -> None:
        reply = await self.by_json(redis, keys, large[:6])
        assert len(reply.points or []) == 6
        reply = await self.by_json(redis, keys, large[:7])
        assert reply.error is not None
        assert reply.error.code == "too_large"

    async def by_json(self, redis: Redis, keys: Keys, ids: list[str]) -> Reply:
        reply_to = keys.reply(uuid.uuid4().hex)
        await enqueue(redis, keys, "get", {"user_id": 1, "point_ids": ids}, reply_to=reply_to, reply_json=True)
        _, body = await redis.blpop([reply_to], 10)  # type: ignore[misc]
        return msgspec.json.decode(body, type=Reply)

    async def test_many_large_answers_are_all_returned(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str]
    ) -> None:
        found = await asyncio.gather(*(queue.get(user_id=1, point_ids=large[:12], timeout=30) for _ in range(20)))
        assert [len(points) for points in found] == [12] * 20

    async def test_large_answers_of_several_namespaces_are_all_returned(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str], stored: Stored
    ) -> None:
        for first in range(0, 12, 4):
            points = (
                memory(1, number, value="y" * 15_000, namespace="n", tilt=0.1) for number in range(first, first + 4)
            )
            await stored(*points)
        options = {"user_id": 1, "vector": axis(0), "namespaces": [None, "n"], "limit": 12, "timeout": 30}
        found = await asyncio.gather(*(queue.search(**options) for _ in range(10)))
        assert [len(hits) for hits in found] == [12] * 10
        searches = [{"user_id": 1, "vector": axis(0), "namespaces": [None, "n"], "limit": 5}] * 2
        results = await asyncio.gather(*(queue.search_many(searches, timeout=30) for _ in range(10)))
        assert [[len(result.hits or []) for result in of_one] for of_one in results] == [[5, 5]] * 10

    async def test_a_page_is_smaller_than_the_largest_answer(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str]
    ) -> None:
        page = await queue.list(user_id=1)
        listed = [page]
        while page.cursor is not None:
            page = await queue.list(user_id=1, cursor=page.cursor)
            listed.append(page)
        assert sorted(point.point_id for page in listed for point in page.points) == sorted(large)
        assert [len(page.points) for page in listed] == [6, 6, 6, 2]

    async def test_only_the_first_large_answer_needs_two_requests(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str], qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.calls.clear()
        for _ in range(3):
            assert len(await queue.get(user_id=1, point_ids=large[:12])) == 12
            assert len(await queue.search(user_id=1, vector=axis(0), limit=12)) == 12
        assert qdrant_proxy.calls.count("Points/Query") == 2 + 2 + 4

    async def test_small_answers_do_not_wait_for_large_ones(
        self, bounded: WorkerProcess, queue: MemoryQueue, large: list[str], qdrant_proxy: QdrantProxy, stored: Stored
    ) -> None:
        await stored(memory(2, 1))
        has_room, go_on, calls = asyncio.Event(), asyncio.Event(), count()

        async def hold_the_second(call: Call) -> Any:
            if next(calls) == 1:  # the first request has shown that the answer is large
                has_room.set()
                await go_on.wait()
            return await call.forward()

        qdrant_proxy.rules["Points/Query"] = hold_the_second
        first = asyncio.create_task(queue.get(user_id=1, point_ids=large[:12], timeout=30))
        await has_room.wait()
        with pytest.raises(ReadFailed, match="timeout"):
            await queue.get(user_id=1, point_ids=large[:12], timeout=0.3)
        assert len(await queue.get(user_id=2, point_ids=["mem_2_1"])) == 1
        go_on.set()
        assert len(await first) == 12
        assert len(await queue.get(user_id=1, point_ids=large[:12])) == 12

    @pytest.mark.parametrize("by_arq", [False, True])
    async def test_replies_without_a_caller_are_limited(
        self, bounded: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, large: list[str], by_arq: bool
    ) -> None:
        document = {"user_id": 1, "point_ids": large[:8], "timeout_ms": 20_000}
        names = [uuid.uuid4().hex for _ in range(10)]
        jobs = [
            await enqueue(redis, keys, "get", document, **({} if by_arq else {"reply_to": keys.reply(name)}))
            for name in names
        ]
        async with asyncio.timeout(20):
            while await redis.zcard(keys.search_queue):
                await queue.info()
        found = [
            result_key_prefix + job.job_id if by_arq else keys.reply(name)
            for job, name in zip(jobs, names, strict=True)
        ]
        sizes = [await (redis.strlen(key) if by_arq else self.length(redis, key)) for key in found]
        assert sum(size > SMALL for size in sizes) == 3  # 120 kB each
        assert all(sizes)
        assert [0 < await redis.pttl(key) <= 22_000 for key in found] == [True] * 10

    async def length(self, redis: Redis, key: str) -> int:
        [body] = await redis.lrange(key, 0, -1)  # type: ignore[misc]
        return len(body)

    async def test_cancelled_reads_leave_nothing_behind(
        self, bounded: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys, large: list[str]
    ) -> None:
        gone = [asyncio.create_task(queue.get(user_id=1, point_ids=large[:12], timeout=30)) for _ in range(20)]
        await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        assert len(await queue.get(user_id=1, point_ids=large[:12])) == 12
        # Where a worker had taken the job, something expires that keeps the reply from being stored.
        left = [key async for key in redis.scan_iter(match=keys.reply("*"), count=1000)]
        assert [await redis.type(key) for key in left] == [b"string"] * len(left)
        assert [await redis.strlen(key) for key in left] == [0] * len(left)
        assert [0 < await redis.pttl(key) <= 31_000 for key in left] == [True] * len(left)
        assert await redis.zcard(keys.search_queue) == await redis.llen(keys.search_calls) == 0  # type: ignore[misc]


async def test_a_reply_on_a_list_leaves_no_result_behind(app: WorkerProcess, redis: Redis, keys: Keys) -> None:
    for job in (Info(), Get(user_id=1, point_ids=["mem_1_1"]), Search(user_id=1, vector=axis(0))):
        reply_to = (await enqueue_call(redis, keys, job)).reply_to
        reply = await wait_for_reply(redis, reply_to, timeout_s=10)
        assert reply is not None
        assert reply.ok
        job_id = reply_to.removeprefix(keys.reply(""))
        assert not await redis.exists(result_key_prefix + job_id)
