"""Counts, facets, files and stats, compared with counting in Python."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import FacetValue, FileInfo, Files, Stats, Upsert
from memory_worker.contract.errors import InvalidJob, ReadFailed
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.reader import Read
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import Contents, Stored
from tests.integration.jobs import chunk, memory

GROUPS = [None, "", "DEFAULT", "WORK", *(f"group {number}" for number in range(20))]


def random_chunks(chosen: random.Random, user_id: int, count: int) -> list[Upsert]:
    found = []
    for number in range(count):
        file_id = chosen.randint(-3, 12)
        payload: dict[str, Any] = {"created": number}
        if (group := chosen.choice(GROUPS[: 2 + abs(file_id) * 2])) is not None:
            payload["group_key"] = group
        if (model := chosen.choice([None, 1, 2])) is not None:
            payload["embedding_model_id"] = model
        found.append(chunk(user_id, file_id, number, **payload))
    return found


def sorted_counts(points: list[Upsert], field: str) -> list[FacetValue]:
    counts = Counter(point.payload[field] for point in points if field in point.payload)
    return [FacetValue(value, count) for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def files_of(points: list[Upsert]) -> list[FileInfo]:
    groups: dict[int, Counter[str]] = defaultdict(Counter)
    for point in points:
        if "group_key" in point.payload:
            groups[point.payload["file_id"]][point.payload["group_key"]] += 1
    return [
        FileInfo(
            int(found.value),
            found.count,
            min(groups[int(found.value)].items(), key=lambda item: (-item[1], item[0]), default=(None, 0))[0],
        )
        for found in sorted_counts(points, "file_id")
    ]


@pytest.fixture
async def chunks(app: WorkerProcess, stored: Stored, seed: int) -> AsyncIterator[list[Upsert]]:
    """The chunks of user 1, beside those of user 2."""
    chosen = random.Random(seed)
    found = random_chunks(chosen, 1, 300)
    for points in (found, random_chunks(chosen, 2, 100)):
        await stored(*points)
    yield found


class TestDocuments:
    async def test_everything_is_counted_as_in_python(self, queue: MemoryQueue, chunks: list[Upsert]) -> None:
        choices: list[dict[str, Any]] = [
            {"kind": "document"},
            {"file_id": 5},
            {"group_key": "WORK"},
            {"group_key": "", "file_id": 3},
            {"file_id": 99},
            {"kind": "document", "where": {"embedding_model_id": {"is": 1, "or_absent": True}}},
            {"kind": "document", "where": {"created": {"gte": 100, "lte": 199}}},
        ]
        for given in choices:
            points = [point for point in chunks if self.selected(point.payload, given)]
            assert await queue.count(user_id=1, **given) == len(points), given
            for field in ("file_id", "group_key", "embedding_model_id"):
                found = await queue.facet(user_id=1, by=field, **given)
                assert found.values == sorted_counts(points, field), (given, field)
                assert not found.truncated
            assert await queue.files(user_id=1, **{"kind": "document", **given}) == files_of(points), given
            stats = await queue.stats(user_id=1, **given)
            fields = ("group_key", "file_id", "embedding_model_id")
            assert stats.points == len(points), given
            assert stats.by == {field: sorted_counts(points, field) for field in fields}, given
            assert stats.absent == {field: sum(field not in point.payload for point in points) for field in fields}, (
                given
            )
            assert not stats.truncated

    def selected(self, payload: dict[str, Any], given: dict[str, Any]) -> bool:
        if any(name in given and payload.get(name) != given[name] for name in ("file_id", "group_key")):
            return False
        where = given.get("where", {})
        if "embedding_model_id" in where:
            return payload.get("embedding_model_id", 1) == 1
        return "created" not in where or 100 <= payload["created"] <= 199

    async def test_a_limit_leaves_out_the_less_frequent(
        self, store: VectorStore, queue: MemoryQueue, chunks: list[Upsert]
    ) -> None:
        everything = files_of(chunks)
        counts = [found.chunks for found in everything]
        for limit in (1, 3, len(everything) - 1, len(everything)):
            files, truncated = await store.facets.files(Files(user_id=1, limit=limit), Read(10))
            assert [found.chunks for found in files] == counts[:limit]
            assert all(found in everything for found in files)
            assert truncated == (limit < len(everything))
            facet = await queue.facet(user_id=1, by="file_id", limit=limit)
            assert [found.count for found in facet.values] == counts[:limit]
            assert facet.truncated == truncated

    async def test_another_user_has_other_files(self, queue: MemoryQueue, chunks: list[Upsert]) -> None:
        assert sum(found.chunks for found in await queue.files(user_id=2)) == 100
        assert await queue.files(user_id=3) == []
        assert await queue.count(user_id=3, kind="document") == 0
        stats = await queue.stats(user_id=3, kind="document")
        assert (stats.points, stats.by["file_id"], stats.absent["file_id"]) == (0, [], 0)

    async def test_deleted_values_are_gone(self, queue: MemoryQueue, chunks: list[Upsert]) -> None:
        receipt = await queue.purge(user_id=1, file_id=5)
        left = [point for point in chunks if point.payload["file_id"] != 5]
        assert await queue.files(user_id=1, after=receipt) == files_of(left)


class TestMemories:
    async def test_namespaces_are_summed_up(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(
            memory(1, 1, category="a"),
            memory(1, 2, category="b"),
            memory(1, 3, category="b", active=False),
            memory(1, 1, category="a", namespace="n"),
            memory(1, 4, category="c", namespace="n"),
            memory(1, 5, namespace="m"),
            memory(2, 1, category="z", namespace="m"),
            chunk(1, 5, 0),
        )
        engine.create(f"{shape.base('memory')}_foreign")
        assert await queue.count(user_id=1) == 2
        assert await queue.count(user_id=1, namespace="n") == 2
        assert await queue.count(user_id=1, namespace="never-used") == 0
        assert await queue.count(user_id=1, namespace="*") == 5
        assert await queue.count(user_id=1, namespace="*", active="any") == 6
        assert await queue.count(user_id=1, namespace="*", active=False) == 1
        found = await queue.facet(user_id=1, by="category", namespace="*")
        assert found.values == [FacetValue("a", 2), FacetValue("b", 1), FacetValue("c", 1)]
        assert not found.truncated
        found = await queue.facet(user_id=1, by="category", namespace="*", limit=2, active="any")
        assert found.values == [FacetValue("a", 2), FacetValue("b", 2)]
        assert found.truncated
        assert (await queue.facet(user_id=1, by="active", active="any")).values == [
            FacetValue(True, 2),
            FacetValue(False, 1),
        ]
        assert (await queue.facet(user_id=1, by="category", namespace="never-used")).values == []
        stats = await queue.stats(user_id=1, namespace="m")
        assert (stats.points, stats.by, stats.absent) == (
            1,
            {"category": [], "embedding_model_id": []},
            {"category": 1, "embedding_model_id": 1},
        )
        assert (await queue.stats(user_id=1, namespace="never-used")).points == 0

    async def test_an_older_copy_counts_as_a_point(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1))
        engine.insert(shape.base("memory"), 1, [1.0] * 8, user_id=1, active=True, _point_id="mem_1_1")
        assert await queue.count(user_id=1) == 2

    async def test_a_missing_base_collection_is_an_error(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1, namespace="n"))
        engine.drop(shape.base("memory"))
        assert await queue.count(user_id=1, namespace="n") == 1
        for namespace in (None, "*"):
            with pytest.raises(ReadFailed, match="unavailable"):
                await queue.count(user_id=1, namespace=namespace)
            with pytest.raises(ReadFailed, match="unavailable"):
                await queue.facet(user_id=1, by="category", namespace=namespace)
        with pytest.raises(ReadFailed, match="unavailable"):
            await queue.stats(user_id=1)

    async def test_wrong_arguments_are_invalid(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        for by in ("value", "_point_id", "none"):
            with pytest.raises(InvalidJob, match="by"):
                await queue.facet(user_id=1, by=by)
        with pytest.raises(InvalidJob, match="limit"):
            await queue.facet(user_id=1, by="category", limit=10_001)
        with pytest.raises(InvalidJob, match="kind"):
            await queue.files(user_id=1, kind="memory")
        with pytest.raises(InvalidJob, match="namespace"):
            await queue.stats(user_id=1, namespace="*")
        with pytest.raises(InvalidJob, match="active"):
            await queue.count(user_id=1, kind="document", active=True)


async def test_the_collections_are_described(
    app: WorkerProcess, queue: MemoryQueue, store: VectorStore, stored: Stored
) -> None:
    await stored(memory(1, 1), memory(1, 1, namespace="n"))
    version = await store.version()
    found = await queue.info()
    assert len(found) == 3
    assert {(info.distance, info.engine_version) for info in found} == {("cosine", version)}


async def test_the_time_of_the_engine_is_that_of_all_requests(store: VectorStore, stored: Stored) -> None:
    await store.prepare()
    await stored(*(chunk(1, number, 0) for number in range(20)))
    read = Read(5)
    stats = await store.facets.stats(Stats(user_id=1, kind="document"), read)
    assert stats.points == 20
    assert 0 < read.engine_ms < 5000
