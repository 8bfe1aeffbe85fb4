"""The client, as the main app uses it: from a push to Redis, through a worker, to Qdrant and back."""

from __future__ import annotations

import asyncio
import gc
from array import array
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.client import producer
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Upsert, partition_of
from memory_worker.contract.errors import (
    DeadLettered,
    InvalidJob,
    NotApplied,
    PushedInPart,
    QueueUnavailable,
    ReadFailed,
)
from memory_worker.contract.kinds import primary_id
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Contents, Everything
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS, axis, chunk

META = QueueMeta(partitions=PARTITIONS, limits=LIMITS)


async def write(queue: MemoryQueue, user_id: int, number: int, at: int = 0, **options: Any) -> None:
    """Write a memory and wait until it can be found."""
    receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(at), **options)
    await queue.wait_applied(receipt)


class TestEndToEnd:
    async def test_a_memory_lives_and_dies(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        await write(queue, 1730, 1, payload={"value": "likes tea", "category": "personal"})
        [hit] = await queue.search(user_id=1730, vector=axis(0))
        assert (hit.point_id, hit.payload["value"]) == ("mem_1730_1", "likes tea")
        assert hit.score == pytest.approx(1)
        [point] = await queue.get(user_id=1730, point_ids=["mem_1730_1"])
        assert point.payload == hit.payload

        await queue.wait_applied(await queue.delete(user_id=1730, point_id="mem_1730_1"))
        assert await queue.search(user_id=1730, vector=axis(0)) == []
        assert await queue.get(user_id=1730, point_ids=["mem_1730_1"]) == []

    async def test_many_at_once_in_order(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        points: list[Any] = [
            {"user_id": user_id, "point_id": f"mem_{user_id}_{round_}", "vector": axis(round_), "payload": {"n": 1}}
            for round_ in range(3)
            for user_id in (1, 2)
        ]
        points.append(Upsert(user_id=1, point_id="mem_1_0", vector=axis(0), payload={"n": 2}))
        receipts = await queue.upsert_many(points)
        assert [receipt.partition for receipt in receipts] == [
            partition_of(user_id, PARTITIONS) for user_id in (1, 2, 1, 2, 1, 2, 1)
        ]
        await asyncio.gather(*map(queue.wait_applied, receipts))
        [first] = await queue.get(user_id=1, point_ids=["mem_1_0"])
        assert first.payload["n"] == 2
        assert len(await queue.get(user_id=2, point_ids=[f"mem_2_{number}" for number in range(3)])) == 3

    async def test_deletes_of_many(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        for number in range(3):
            await write(queue, 1, number)
        await queue.wait_applied(await queue.delete(user_id=1, point_ids=["mem_1_0", "mem_1_2"]))
        found = await queue.get(user_id=1, point_ids=["mem_1_0", "mem_1_1", "mem_1_2"])
        assert [point.point_id for point in found] == ["mem_1_1"]

    @pytest.mark.parametrize(
        ("narrowing", "left"),
        [
            ({}, set()),
            ({"kind": "document"}, {"mem_1_1", "mem_1_2", "mem_1_3"}),
            ({"kind": "memory"}, {"doc_1_5_0", "doc_1_6_0"}),
            ({"category": "a"}, {"mem_1_2", "mem_1_3", "doc_1_5_0", "doc_1_6_0"}),
            ({"namespace": "n"}, {"mem_1_1", "mem_1_2", "doc_1_5_0", "doc_1_6_0"}),
            ({"file_id": 5}, {"mem_1_1", "mem_1_2", "mem_1_3", "doc_1_6_0"}),
            ({"group_key": "g"}, {"mem_1_1", "mem_1_2", "mem_1_3", "doc_1_5_0"}),
        ],
    )
    async def test_purges(
        self,
        app: WorkerProcess,
        queue: MemoryQueue,
        shape: CollectionShape,
        engine: Contents,
        narrowing: dict[str, Any],
        left: set[str],
    ) -> None:
        def memory(user_id: int, number: int, **options: Any) -> Upsert:
            return Upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(number), **options)

        await queue.push_many(
            [
                memory(1, 1, payload={"category": "a"}),
                memory(1, 2, payload={"category": "b"}),
                memory(1, 3, namespace="n"),
                chunk(1, 5, 0),
                chunk(1, 6, 0, group_key="g"),
                memory(2, 1, payload={"category": "a"}),
                memory(2, 2, namespace="n"),
            ]
        )
        others = await queue.upsert(user_id=2, point_id="mem_2_3", vector=axis(0))
        receipt = await queue.purge(user_id=1, **narrowing)
        await asyncio.gather(queue.wait_applied(receipt), queue.wait_applied(others))

        collections = (shape.memories, shape.documents, f"{shape.memories}_n")
        found = {point for collection in collections for point in engine.points(collection)}
        assert found == left | {"mem_2_1", "mem_2_2", "mem_2_3"}

    async def test_documents_and_namespaces(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        options = {"user_id": 1, "vector": axis(0)}
        await queue.upsert(point_id="doc_1_5_0", kind="document", payload={"file_id": 5}, **options)
        receipt = await queue.upsert(point_id="mem_1_1", namespace="feedback_positive", **options)
        await queue.wait_applied(receipt)
        assert [hit.point_id for hit in await queue.search(kind="document", **options)] == ["doc_1_5_0"]
        assert [hit.point_id for hit in await queue.search(namespace="feedback_positive", **options)] == ["mem_1_1"]
        assert await queue.search(**options) == []

    async def test_a_dead_letter_says_why(
        self, app: WorkerProcess, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        [receipt] = await push(redis, keys, PARTITIONS, [(0, b"\xc1 no job at all")])
        with pytest.raises(DeadLettered, match="neither MessagePack nor JSON") as dead_letter:
            await queue.wait_applied(receipt)
        assert dead_letter.value.reason == "malformed"

    async def test_info(self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape) -> None:
        await write(queue, 1, 1)
        infos = {info.name: info for info in await queue.info()}
        assert {name: info.points for name, info in infos.items()} == {shape.memories: 1, shape.documents: 0}
        assert infos[shape.memories].dimension == DIMENSION

    async def test_concurrent_use(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        await asyncio.gather(*(write(queue, number % 7 + 1, number, at=number) for number in range(60)))
        found = await asyncio.gather(
            *(
                queue.search(user_id=number % 7 + 1, vector=axis(number), limit=100, min_score=-1)
                for number in range(60)
            )
        )
        for number, hits in enumerate(found):
            own = {f"mem_{number % 7 + 1}_{other}" for other in range(60) if other % 7 == number % 7}
            assert {hit.point_id for hit in hits} == own


class TestVectors:
    async def test_all_the_forms_of_one(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        numpy = pytest.importorskip("numpy")
        numbers = [0.0, 0.6, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0]
        packed = array("f", numbers).tobytes()
        forms = [
            numbers,
            tuple(numbers),
            iter(numbers),
            array("f", numbers),
            array("d", numbers),
            numpy.array(numbers, dtype="float32"),
            numpy.array(numbers, dtype="float64"),
            numpy.array([number for number in numbers for _ in (0, 1)], dtype="float32")[::2],
            packed,
            bytearray(packed),
        ]
        receipts = [
            await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=form) for number, form in enumerate(forms)
        ]
        await queue.wait_applied(receipts[-1])
        for number in range(len(forms)):
            stored = engine.vector(shape.memories, primary_id(f"mem_1_{number}"))
            assert stored == pytest.approx(numbers, abs=1e-6), f"form {number}"
        hits = await queue.search(user_id=1, vector=numpy.array(numbers), limit=100)
        assert len(hits) == len(forms)


class TestRefusedAtOnce:
    @pytest.mark.parametrize(
        ("field", "wrong"),
        [
            ("vector", {"vector": axis(0)[:-4]}),
            ("vector[0]", {"vector": [float("nan")] * DIMENSION}),
            ("vector", {"vector": "a string"}),
            ("vector[0]", {"vector": [1e39] * DIMENSION}),
            ("point_id", {"point_id": "mem_2_1"}),
            ("point_id", {"point_id": "doc_1_1"}),
            ("namespace", {"namespace": "Upper"}),
            ("user_id", {"user_id": 0}),
            ("payload.category", {"payload": {"category": 5}}),
            ("payload.user_id", {"payload": {"user_id": 2}}),
            ("payload.x", {"payload": {"x": float("inf")}}),
            ("payload.x", {"payload": {"x": object()}}),
            ("job", {"payload": {"x": "x" * LIMITS.max_job_bytes}}),
        ],
    )
    async def test_nothing_is_stored(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, everything: Everything, field: str, wrong: dict[str, Any]
    ) -> None:
        await publish_meta(redis, keys, META)
        before = await everything()
        good = {"user_id": 1, "point_id": "mem_1_1", "vector": axis(0)}
        with pytest.raises(InvalidJob) as invalid:
            await queue.upsert(**{**good, **wrong})
        assert invalid.value.field == field
        with pytest.raises(InvalidJob):
            await queue.upsert_many([good, {**good, **wrong}])
        assert await everything() == before

    async def test_other_jobs_too(self, queue: MemoryQueue, redis: Redis, keys: Keys, everything: Everything) -> None:
        await publish_meta(redis, keys, META)
        before = await everything()
        with pytest.raises(InvalidJob, match="point_ids"):
            await queue.delete(user_id=1)
        with pytest.raises(InvalidJob, match="point_id"):
            await queue.delete(user_id=1, point_ids=["mem_1_1", "mem_2_1"])
        with pytest.raises(InvalidJob, match="category"):
            await queue.purge(user_id=1, kind="document", category="a")
        with pytest.raises(InvalidJob, match="limit"):
            await queue.search(user_id=1, vector=axis(0), limit=101)
        with pytest.raises(InvalidJob, match="vector"):
            await queue.search(user_id=1, vector=axis(0)[:8])
        with pytest.raises(InvalidJob, match="point_id"):
            await queue.get(user_id=1, point_ids=["mem_2_1"])
        with pytest.raises(InvalidJob, match="upsert"):
            await queue.upsert_many([{"user_id": 1, "colour": "red"}])
        assert await everything() == before


class TestMeta:
    async def test_limits_are_looked_at_again_before_a_job_is_refused(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await publish_meta(redis, keys, META)
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        wider = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=2 * DIMENSION))
        await publish_meta(redis, keys, wider)
        with pytest.raises(InvalidJob):  # they were looked at a moment ago
            await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0) * 2)
        monkeypatch.setattr(producer, "_META_FRESH_S", 0.0)
        await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0) * 2)
        with pytest.raises(InvalidJob):
            await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))

    async def test_a_queue_that_was_set_up_anew(self, queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
        await publish_meta(redis, keys, META)
        receipts = [await queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1") for user_id in range(1, 9)]
        assert {receipt.partition for receipt in receipts} == set(range(PARTITIONS))
        await redis.delete(keys.meta)
        await publish_meta(redis, keys, QueueMeta(partitions=2, limits=LIMITS))
        for user_id in range(1, 9):
            receipt = await queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1")
            assert receipt.partition == partition_of(user_id, 2)


class TestFailures:
    async def test_nobody_applies(self, queue: MemoryQueue) -> None:
        receipt = await queue.delete(user_id=1, point_id="mem_1_1")
        with pytest.raises(NotApplied):
            await queue.wait_applied(receipt, timeout=0.05)

    async def test_nobody_answers(self, queue: MemoryQueue) -> None:
        with pytest.raises(ReadFailed, match="no worker answered within 50 ms") as failed:
            await queue.search(user_id=1, vector=axis(0), timeout=0.05)
        assert failed.value.code == "timeout"

    async def test_no_redis(self) -> None:
        async with MemoryQueue.connect("redis://127.0.0.1:1", timeout_s=1) as queue:
            with pytest.raises(QueueUnavailable):
                await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            with pytest.raises(QueueUnavailable):
                await queue.search(user_id=1, vector=axis(0))

    async def test_many_of_which_a_later_part_finds_no_room(self, queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=1, limits=LIMITS, max_bytes=1_500_000))
        big = {"x": "x" * 60_000}
        points = [{"user_id": 1, "point_id": f"mem_1_{n}", "vector": axis(0), "payload": big} for n in range(30)]
        with pytest.raises(PushedInPart) as in_part:
            await queue.upsert_many(points)
        assert len(in_part.value.stored) == await redis.xlen(keys.stream(0)) == 17  # what fits into 1 MiB


class TestLoops:
    def test_one_object_in_one_loop_after_another(self, redis_url: str, redis_prefix: str) -> None:
        queue = MemoryQueue.connect(redis_url, prefix=redis_prefix)

        async def use() -> None:
            async with queue:
                receipt = await queue.delete(user_id=1, point_id="mem_1_1")
                with pytest.raises(NotApplied):
                    await queue.wait_applied(receipt, timeout=0.01)

        asyncio.run(use())
        asyncio.run(use())
        gc.collect()  # what was not closed would warn, and warnings are errors

    async def test_closed_and_used_again(self, queue: MemoryQueue) -> None:
        await queue.close()
        await queue.delete(user_id=1, point_id="mem_1_1")
        await queue.close()
        await queue.delete(user_id=1, point_id="mem_1_1")

    async def test_never_used(self, redis_url: str) -> None:
        async with MemoryQueue.connect(redis_url):
            pass


@pytest.mark.parametrize("name", ["kind", "namespace", "category", "group_key", "file_id"])
async def test_a_purge_is_not_widened_by_what_is_none(queue: MemoryQueue, redis: Redis, keys: Keys, name: str) -> None:
    """``purge(file_id=file.id)`` of a file that has no id yet must not delete the whole account."""
    with pytest.raises(InvalidJob, match=f"{name}: must not be None"):
        await queue.purge(user_id=1, **{name: None})
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}:stream:*")] == []


async def test_a_redis_that_accepts_but_does_not_answer() -> None:
    silent = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(5), MemoryQueue.connect(f"redis://127.0.0.1:{port}", timeout_s=0.2) as opened:
        with pytest.raises(QueueUnavailable):
            await opened.delete(user_id=1, point_id="mem_1_1")
    silent.set()
    server.close()
    await server.wait_closed()
