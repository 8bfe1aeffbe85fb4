"""Every operation of the main app on its vectors, as calls of the client against a running worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memory_worker.client.admin_queue import AdminQueue
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, FacetValue, Receipt, Search, Upsert
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from tests.integration.jobs import axis

USER, OTHER = 1730, 1731
NAMESPACES = ("feedback_false_positive", "feedback_positive")
MODEL, OLD_MODEL = 42, 7
FRESH = {"embedding_model_id": {"is": MODEL, "or_absent": True}}
"""Points of the current model, and those that do not say of which model they are."""


@pytest.fixture(autouse=True)
def worker(app: WorkerProcess) -> WorkerProcess:
    """A worker runs in each test."""
    return app


@pytest.fixture
async def admin(redis_url: str, redis_prefix: str) -> AsyncIterator[AdminQueue]:
    """The client of the operator's tools."""
    async with AdminQueue.connect(redis_url, prefix=redis_prefix) as opened:
        yield opened


def a_memory(number: int, at: int = 0, *, user_id: int = USER, namespace: str | None = None, **payload: Any) -> Upsert:
    payload = {"category": "personal", "value": f"text {number}", "created": number, "updated": number, **payload}
    return Upsert(
        user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=axis(at), payload=payload, namespace=namespace
    )


def a_chunk(file_id: int, number: int, at: int = 0, *, user_id: int = USER, **payload: Any) -> Upsert:
    payload = {"file_id": file_id, "chunk_index": number, "text": "text", "group_key": "DEFAULT", **payload}
    point_id = f"doc_{user_id}_{file_id}_{number}"
    return Upsert(user_id=user_id, point_id=point_id, vector=axis(at), payload=payload, kind="document")


async def applied(queue: MemoryQueue, receipts: Receipt | list[Receipt]) -> None:
    await asyncio.gather(*map(queue.wait_applied, [receipts] if isinstance(receipts, Receipt) else receipts))


async def memories(queue: MemoryQueue, namespace: str | None = None) -> set[str]:
    page = await queue.list(user_id=USER, namespace=namespace)
    return {point.point_id for point in page.points}


async def chunks(queue: MemoryQueue, **narrowing: Any) -> set[str]:
    page = await queue.list(user_id=USER, kind="document", **narrowing)
    return {point.point_id for point in page.points}


class TestWritesOfMemories:
    async def test_upsert(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_memory(1), a_memory(1, value="newer")]))
        [point] = await queue.get(user_id=USER, point_ids=["mem_1730_1"])
        assert point.payload["value"] == "newer"

    async def test_delete_in_a_namespace_that_is_not_known(self, queue: MemoryQueue) -> None:
        written = [a_memory(1), *(a_memory(1, namespace=namespace) for namespace in NAMESPACES), a_memory(2)]
        receipts = await queue.push_many(written)
        receipts.append(await queue.delete(user_id=USER, point_id="mem_1730_1", namespace="*"))
        await applied(queue, receipts)
        assert [await memories(queue, namespace) for namespace in (None, *NAMESPACES)] == [{"mem_1730_2"}, set(), set()]

    async def test_delete_all_of_a_user_with_proof(self, queue: MemoryQueue) -> None:
        written = [a_memory(1), *(a_memory(1, namespace=namespace) for namespace in NAMESPACES)]
        await applied(queue, await queue.push_many([*written, a_memory(1, user_id=OTHER)]))
        assert await queue.count(user_id=USER, namespace="*", active="any") == 3
        receipt = await queue.purge(user_id=USER, kind="memory")
        assert await queue.count(user_id=USER, namespace="*", active="any", after=receipt) == 0
        assert await queue.count(user_id=OTHER) == 1

    async def test_change_of_the_namespace(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_memory(1, namespace=NAMESPACES[0])]))
        move = [
            Delete(user_id=USER, point_ids=["mem_1730_1"], namespace="*"),
            a_memory(1, namespace=NAMESPACES[1]),
        ]
        await applied(queue, await queue.push_many(move))
        assert [await memories(queue, namespace) for namespace in NAMESPACES] == [set(), {"mem_1730_1"}]

    async def test_deactivate(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_memory(1), a_memory(2)]))
        await applied(queue, await queue.patch(user_id=USER, point_id="mem_1730_1", set={"active": False}))
        assert [hit.point_id for hit in await queue.search(user_id=USER, vector=axis(0))] == ["mem_1730_2"]
        assert await queue.count(user_id=USER, active=False) == 1

    async def test_part_of_the_payload_without_the_vector(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_memory(1, at=3, message_id=5)]))
        change = {"category": "work", "source": "api"}
        await applied(queue, await queue.patch(user_id=USER, point_id="mem_1730_1", set=change, unset=["message_id"]))
        [point] = await queue.get(user_id=USER, point_ids=["mem_1730_1"], vectors=True)
        assert {**change, "value": "text 1"}.items() <= point.payload.items()
        assert "message_id" not in point.payload
        assert point.vector == axis(3)


class TestWritesOfDocuments:
    async def test_upsert_of_one_and_of_many(self, queue: MemoryQueue) -> None:
        receipts = await queue.upsert_many([a_chunk(88, number) for number in range(150)])
        receipts.append(await queue.upsert(user_id=USER, point_id="doc_1730_9_0", vector=axis(0), kind="document"))
        await applied(queue, receipts)
        assert await queue.count(user_id=USER, kind="document") == 151

    async def test_replace_a_file(self, queue: MemoryQueue) -> None:
        """The new run has fewer chunks, and gaps where the embedding failed."""
        old = [a_chunk(88, number, _version=1) for number in range(5)]
        await applied(queue, await queue.push_many([*old, a_chunk(89, 0)]))
        new = [
            {"point_id": f"doc_1730_88_{number}", "vector": axis(1), "payload": {"chunk_index": number}}
            for number in (0, 3)
        ]
        await applied(queue, await queue.replace_file(user_id=USER, file_id=88, chunks=new, version=2))
        assert await chunks(queue) == {"doc_1730_88_0", "doc_1730_88_3", "doc_1730_89_0"}

    async def test_delete_of_one_a_file_a_group_and_all(self, queue: MemoryQueue) -> None:
        written = [a_chunk(file_id, number) for file_id in (1, 2) for number in range(2)]
        written += [a_chunk(3, 0, group_key="WORK"), a_chunk(4, 0), a_chunk(5, 0)]
        await applied(queue, await queue.push_many([*written, a_memory(1)]))
        await applied(queue, await queue.delete(user_id=USER, point_id="doc_1730_5_0", kind="document"))
        assert await queue.count(user_id=USER, kind="document", file_id=1) == 2  # what the app shows
        await applied(queue, await queue.purge(user_id=USER, file_id=1))
        await applied(queue, await queue.purge(user_id=USER, group_key="WORK"))
        assert await chunks(queue) == {"doc_1730_2_0", "doc_1730_2_1", "doc_1730_4_0"}
        await applied(queue, await queue.purge(user_id=USER, kind="document"))
        assert (await chunks(queue), await memories(queue)) == (set(), {"mem_1730_1"})

    async def test_move_and_clear_the_group_of_a_file(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_chunk(88, 0), a_chunk(88, 1), a_chunk(89, 0)]))
        assert await queue.count(user_id=USER, kind="document", file_id=90) == 0  # then the app vectorizes it now
        await applied(
            queue, await queue.patch(user_id=USER, kind="document", file_id=88, set={"group_key": "PROMPT:1"})
        )
        assert await chunks(queue, group_key="PROMPT:1") == {"doc_1730_88_0", "doc_1730_88_1"}
        await applied(queue, await queue.patch(user_id=USER, kind="document", file_id=88, set={"group_key": "DEFAULT"}))
        assert len(await chunks(queue, group_key="DEFAULT")) == 3


class TestReadsOfMemories:
    async def test_search_for_a_chat_message(self, queue: MemoryQueue) -> None:
        """Hidden categories and vectors of another model are left out before the limit, not after it."""
        hidden = [a_memory(number, category="feedback_positive") for number in range(1, 9)]
        stale = [a_memory(number, embedding_model_id=OLD_MODEL) for number in range(11, 19)]
        fresh = [a_memory(21, embedding_model_id=MODEL), a_memory(22)]
        await applied(queue, await queue.push_many([*hidden, *stale, *fresh]))
        hits = await queue.search(
            user_id=USER, vector=axis(0), limit=5, min_score=0.45, not_category=["feedback_positive"], where=FRESH
        )
        assert {hit.point_id for hit in hits} == {"mem_1730_21", "mem_1730_22"}
        assert len(await queue.search(user_id=USER, vector=axis(0), category="feedback_positive", limit=200)) == 8

    async def test_the_index_right_after_a_create(self, queue: MemoryQueue) -> None:
        [receipt] = await queue.push_many([a_memory(1)])
        [point] = await queue.get(user_id=USER, point_ids=["mem_1730_1"], after=receipt)
        assert point.point_id == "mem_1730_1"

    async def test_scroll(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_memory(number) for number in range(1, 8)]))
        found, cursor = [], None
        while True:
            page = await queue.list(user_id=USER, order="created", limit=3, cursor=cursor, fields=["value"])
            found += [point.payload["value"] for point in page.points]
            if (cursor := page.cursor) is None:
                break
        assert found == [f"text {number}" for number in range(7, 0, -1)]
        assert await queue.count(user_id=USER, where={"created": 3}) == 1

    async def test_scroll_over_all_users(self, queue: MemoryQueue, admin: AdminQueue) -> None:
        await applied(
            queue, await queue.push_many([a_memory(1), a_memory(1, user_id=OTHER), a_memory(2, active=False)])
        )
        page = await admin.list(fields=["user_id"])
        assert {(point.point_id, point.payload["user_id"]) for point in page.points} == {
            ("mem_1730_1", USER),
            ("mem_1731_1", OTHER),
        }

    async def test_several_searches_at_once(self, queue: MemoryQueue) -> None:
        written = [a_memory(1), a_memory(2, at=1), *(a_memory(3, at=2, namespace=name) for name in NAMESPACES)]
        await applied(queue, await queue.push_many(written))
        hits = await queue.search(user_id=USER, vector=axis(2), namespaces=[None, *NAMESPACES])
        assert {(hit.point_id, hit.namespace) for hit in hits} == {("mem_1730_3", name) for name in NAMESPACES}
        results = await queue.search_many([Search(user_id=USER, vector=axis(at)) for at in (0, 1, 7)])
        assert [[hit.point_id for hit in result.hits or []] for result in results] == [
            ["mem_1730_1"],
            ["mem_1730_2"],
            [],
        ]


class TestReadsOfDocuments:
    async def test_search_in_a_group_for_the_model_of_the_user(self, queue: MemoryQueue) -> None:
        written = [a_chunk(1, n, group_key="WORK", embedding_model_id=MODEL) for n in range(3)]
        written += [a_chunk(2, n, group_key="WORK", embedding_model_id=OLD_MODEL) for n in range(3)]
        await applied(queue, await queue.push_many([*written, a_chunk(3, 0)]))
        hits = await queue.search(
            user_id=USER, vector=axis(0), kind="document", group_key="WORK", limit=50, min_score=0.2, where=FRESH
        )
        assert {hit.payload["file_id"] for hit in hits} == {1}

    async def test_find_similar(self, queue: MemoryQueue) -> None:
        await applied(queue, await queue.push_many([a_chunk(1, 0), a_chunk(1, 1), a_chunk(2, 0, at=3)]))
        hits = await queue.search(user_id=USER, kind="document", like="doc_1730_1_0", limit=102)
        assert [hit.point_id for hit in hits] == ["doc_1730_1_1"]
        assert await queue.search(user_id=USER, kind="document", like="doc_1730_9_9") == []
        assert await queue.search(user_id=OTHER, kind="document", like="doc_1731_1_0") == []

    async def test_statistics_groups_and_files(self, queue: MemoryQueue) -> None:
        written = [a_chunk(1, n, group_key="WORK") for n in range(3)] + [a_chunk(2, n) for n in range(2)]
        await applied(queue, await queue.push_many([*written, a_chunk(3, 0, user_id=OTHER)]))
        stats = await queue.stats(user_id=USER, kind="document")
        assert (stats.points, stats.by["file_id"]) == (5, [FacetValue(1, 3), FacetValue(2, 2)])
        groups = await queue.facet(user_id=USER, kind="document", by="group_key")
        assert groups.values == [FacetValue("WORK", 3), FacetValue("DEFAULT", 2)]
        files = {found.file_id: (found.chunks, found.group_key) for found in await queue.files(user_id=USER)}
        assert files == {1: (3, "WORK"), 2: (2, "DEFAULT")}
        [one] = await queue.files(user_id=USER, file_id=2)
        assert (one.chunks, one.group_key) == (2, "DEFAULT")
        assert [found.file_id for found in await queue.files(user_id=USER, group_key="WORK")] == [1]

    async def test_statistics_of_all_users(self, queue: MemoryQueue, admin: AdminQueue) -> None:
        written = [a_chunk(1, n) for n in range(3)] + [a_chunk(2, 0, user_id=OTHER)]
        await applied(queue, await queue.push_many(written))
        assert await admin.count(kind="document") == 4
        top = await admin.facet("user_id", kind="document", limit=1)
        assert (top.values, top.truncated) == ([FacetValue(USER, 3)], True)

    async def test_vectors_of_other_models(self, queue: MemoryQueue) -> None:
        written = [a_chunk(1, 0, embedding_model_id=MODEL), a_chunk(1, 1, embedding_model_id=OLD_MODEL), a_chunk(1, 2)]
        await applied(queue, await queue.push_many(written))
        stale = {"embedding_model_id": {"not_any": [MODEL]}}
        assert await queue.count(user_id=USER, kind="document", where=stale) == 1
        models = await queue.facet(user_id=USER, kind="document", by="embedding_model_id")
        assert sorted((found.value, found.count) for found in models.values) == [(OLD_MODEL, 1), (MODEL, 1)]
        await applied(queue, await queue.purge(user_id=USER, kind="document", other_than_model=MODEL))
        assert await chunks(queue) == {"doc_1730_1_0", "doc_1730_1_2"}


class TestCollections:
    async def test_they_are_made_and_described(self, queue: MemoryQueue, shape: CollectionShape) -> None:
        await applied(queue, await queue.push_many([a_memory(1, namespace="brand_new")]))
        infos = {info.name: info for info in await queue.info()}
        made = infos[f"{shape.base('memory')}_brand_new"]
        assert (made.points, made.dimension, made.distance) == (1, len(axis(0)) // 4, "cosine")
        assert made.engine_version

    async def test_health(self, queue: MemoryQueue) -> None:
        health = await queue.health(timeout=5)
        assert health.version
        assert health.engine_ms > 0
        async with asyncio.timeout(10):
            while (report := await queue.status()) is None:  # noqa: ASYNC110  # there is no signal for it
                await asyncio.sleep(0.05)
        assert (report.waiting, report.dead) == (0, 0)
