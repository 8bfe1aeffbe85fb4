"""The client of the main app: from a push to Redis, through a worker, to Qdrant and back."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.client import producer
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Upsert, partition_of
from memory_worker.contract.errors import (
    InvalidJob,
    NotApplied,
    QueueUnavailable,
    ReadFailed,
)
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration.conftest import Contents
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS, axis, chunk, memory

META = QueueMeta(partitions=PARTITIONS, limits=LIMITS)


async def write(queue: MemoryQueue, user_id: int, number: int, at: int = 0, **options: Any) -> None:
    """Write a memory and wait until it can be found."""
    receipt = await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(at), **options)
    await queue.wait_applied(receipt)


class TestEndToEnd:
    async def test_a_memory_is_written_found_and_deleted(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape
    ) -> None:
        await write(queue, 1730, 1, payload={"value": "likes tea", "category": "personal"})
        [hit] = await queue.search(user_id=1730, vector=axis(0))
        assert (hit.point_id, hit.payload["value"]) == ("mem_1730_1", "likes tea")
        assert hit.score == pytest.approx(1)
        [point] = await queue.get(user_id=1730, point_ids=["mem_1730_1"])
        assert point.payload == hit.payload
        assert {info.name: info.points for info in await queue.info()} == {
            shape.base("memory"): 1,
            shape.base("document"): 0,
        }

        await queue.wait_applied(await queue.delete(user_id=1730, point_id="mem_1730_1"))
        assert await queue.search(user_id=1730, vector=axis(0)) == []
        assert await queue.get(user_id=1730, point_ids=["mem_1730_1"]) == []

    async def test_many_points_are_written_in_order(self, app: WorkerProcess, queue: MemoryQueue) -> None:
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

    async def test_many_points_are_deleted(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        for number in range(3):
            await write(queue, 1, number)
        await queue.wait_applied(await queue.delete(user_id=1, point_ids=["mem_1_0", "mem_1_2"]))
        found = await queue.get(user_id=1, point_ids=["mem_1_0", "mem_1_1", "mem_1_2"])
        assert [point.point_id for point in found] == ["mem_1_1"]

    async def test_a_purge_deletes_what_its_arguments_select(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        """Each case is a user, and one user is not purged."""
        cases: list[tuple[dict[str, Any] | None, str]] = [
            ({}, ""),
            ({"kind": "document"}, "mem_1 mem_2 mem_3"),
            ({"kind": "memory"}, "doc_5 doc_6"),
            ({"category": "a"}, "mem_2 mem_3 doc_5 doc_6"),
            ({"namespace": "n"}, "mem_1 mem_2 doc_5 doc_6"),
            ({"file_id": 5}, "mem_1 mem_2 mem_3 doc_6"),
            ({"group_key": "g"}, "mem_1 mem_2 mem_3 doc_5"),
            (None, "mem_1 mem_2 mem_3 doc_5 doc_6"),
        ]
        last = []
        for user_id, (narrowing, _) in enumerate(cases, start=1):
            pushed = await queue.push_many(
                [
                    *(memory(user_id, 1, category="a"), memory(user_id, 2, category="b")),
                    *(memory(user_id, 3, namespace="n"), chunk(user_id, 5, 0), chunk(user_id, 6, 0, group_key="g")),
                ]
            )
            last.append(pushed[-1] if narrowing is None else await queue.purge(user_id=user_id, **narrowing))
        await asyncio.gather(*map(queue.wait_applied, last))

        collections = (shape.base("memory"), shape.base("document"), f"{shape.base('memory')}_n")
        found = [point_id.split("_") for collection in collections for point_id in engine.points(collection)]
        for user_id, (narrowing, left) in enumerate(cases, start=1):
            assert {f"{kind}_{number}" for kind, user, number, *_ in found if user == str(user_id)} == {
                *left.split()
            }, narrowing

    async def test_documents_and_namespaces_have_their_own_points(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        options = {"user_id": 1, "vector": axis(0)}
        await queue.upsert(point_id="doc_1_5_0", kind="document", payload={"file_id": 5}, **options)
        receipt = await queue.upsert(point_id="mem_1_1", namespace="feedback_positive", **options)
        await queue.wait_applied(receipt)
        assert [hit.point_id for hit in await queue.search(kind="document", **options)] == ["doc_1_5_0"]
        assert [hit.point_id for hit in await queue.search(namespace="feedback_positive", **options)] == ["mem_1_1"]
        assert await queue.search(**options) == []

    async def test_concurrent_searches_get_their_own_answers(self, app: WorkerProcess, queue: MemoryQueue) -> None:
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


class TestPublishedLimits:
    async def test_the_limits_are_read_again_before_a_job_is_refused(
        self, queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An iterator among the arguments is still read only once."""
        await publish_meta(redis, keys, META)
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        wider = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=2 * DIMENSION))
        await publish_meta(redis, keys, wider)
        with pytest.raises(InvalidJob):  # they were read a moment ago
            await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0) * 2)
        monkeypatch.setattr(producer, "_META_FRESH_S", 0.0)
        await queue.upsert(user_id=1, point_id="mem_1_2", vector=iter([0.5] * 2 * DIMENSION))
        with pytest.raises(InvalidJob):
            await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))

    async def test_a_new_number_of_partitions_is_used(self, queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
        await publish_meta(redis, keys, META)
        receipts = [await queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1") for user_id in range(1, 9)]
        assert {receipt.partition for receipt in receipts} == set(range(PARTITIONS))
        await redis.delete(keys.meta)
        await publish_meta(redis, keys, QueueMeta(partitions=2, limits=LIMITS))
        for user_id in range(1, 9):
            receipt = await queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1")
            assert receipt.partition == partition_of(user_id, 2)


class TestFailures:
    async def test_a_read_without_a_worker_times_out(self, queue: MemoryQueue) -> None:
        with pytest.raises(ReadFailed, match="no worker answered within 50 ms") as failed:
            await queue.search(user_id=1, vector=axis(0), timeout=0.05)
        assert failed.value.code == "timeout"

    async def test_requests_without_a_redis_fail(self) -> None:
        async with MemoryQueue.connect("redis://127.0.0.1:1", timeout_s=1) as queue:
            with pytest.raises(QueueUnavailable):
                await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            with pytest.raises(QueueUnavailable):
                await queue.search(user_id=1, vector=axis(0))


class TestLoops:
    def test_one_client_in_several_event_loops(self, redis_url: str, redis_prefix: str) -> None:
        queue = MemoryQueue.connect(redis_url, prefix=redis_prefix)

        async def use() -> None:
            async with queue:
                receipt = await queue.delete(user_id=1, point_id="mem_1_1")
                with pytest.raises(NotApplied):
                    await queue.wait_applied(receipt, timeout=0.01)

        asyncio.run(use())
        asyncio.run(use())
        gc.collect()  # a connection that was not closed causes a warning, and warnings are errors

    async def test_a_closed_client_can_be_used_again(self, queue: MemoryQueue) -> None:
        for _ in range(2):
            await queue.close()  # the first time before it was used
            await queue.delete(user_id=1, point_id="mem_1_1")
