"""A point that is stored under an older integer id and under its UUID is found once."""

from __future__ import annotations

import pytest

from memory_worker.contract import Get, Search, Upsert
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import Contents
from tests.integration.jobs import axis, memory
from tests.integration.proxies import QdrantProxy

MEMORIES = CollectionRef("memory")


async def write(store: VectorStore, *points: Upsert) -> None:
    await store.apply(MEMORIES, [UpsertPoints(points)], timeout_s=5)


def older(
    engine: Contents, shape: CollectionShape, number: int, *, at: int = 0, tilt: float = 0.0, copy: int = 0
) -> None:
    """Write a copy of memory ``number`` of user 1, as older versions of the main app did."""
    vector = [0.0] * 8
    vector[at], vector[at + 1] = 1.0, tilt
    payload = {"user_id": 1, "active": True, "_point_id": f"mem_1_{number}", "value": "old"}
    engine.insert(shape.base("memory"), number + 1000 * copy, vector, **payload)


async def search(store: VectorStore, *, limit: int = 5, min_score: float | None = None) -> list[tuple[str, str | None]]:
    job = Search(user_id=1, vector=axis(0), limit=limit, min_score=min_score)
    hits, _ = await store.search(job, timeout_s=5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return [(hit.point_id, hit.payload.get("value")) for hit in hits]


class TestSearch:
    async def test_only_the_copy_with_the_better_score_is_found(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await write(store, memory(1, 1, value="new"), memory(1, 2, value="new", tilt=0.5), memory(1, 3, value="new"))
        older(engine, shape, 1, tilt=0.3)
        older(engine, shape, 2, tilt=0.1)
        assert set(await search(store)) == {("mem_1_1", "new"), ("mem_1_2", "old"), ("mem_1_3", "new")}

    @pytest.mark.parametrize("limit", [1, 2, 5, 9, 10, 50])
    async def test_a_search_finds_as_many_points_as_its_limit(
        self, store: VectorStore, shape: CollectionShape, engine: Contents, limit: int
    ) -> None:
        await write(store, *(memory(1, number, tilt=number / 50, value="new") for number in range(1, 11)))
        for number in range(1, 11):
            older(engine, shape, number, tilt=(number + 0.5) / 50)
        expected = [(f"mem_1_{number}", "new") for number in range(1, 11)]
        assert await search(store, limit=limit) == expected[:limit]

    async def test_many_copies_do_not_hide_other_points(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await write(store, memory(1, 1, value="new"), memory(1, 2, value="new", tilt=0.5))
        for copy in range(9):
            older(engine, shape, 1, copy=copy, tilt=0.1)
        assert await search(store, limit=2) == [("mem_1_1", "new"), ("mem_1_2", "new")]

    async def test_a_search_without_copies_is_one_request(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        await write(proxied_store, *(memory(1, number) for number in range(10)))
        assert len(await search(proxied_store, limit=10)) == 10
        assert len(await search(proxied_store, limit=3)) == 3
        assert [name for name in qdrant_proxy.calls if "Query" in name] == ["Points/Query"] * 2


class TestGet:
    async def test_the_newer_copy_is_read(self, store: VectorStore, shape: CollectionShape, engine: Contents) -> None:
        await write(store, *(memory(1, number, value="new") for number in range(1, 6)))
        for number in range(1, 8):
            older(engine, shape, number)
        ids = [f"mem_1_{number}" for number in range(1, 8)]
        points, _ = await store.get(Get(user_id=1, point_ids=ids), timeout_s=5)
        assert [point.point_id for point in points] == ids
        assert [point.payload["value"] for point in points] == ["new"] * 5 + ["old"] * 2

    async def test_many_copies_do_not_hide_other_points(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await write(store, memory(1, 1, value="new"), memory(1, 2, value="new"))
        for copy in range(9):
            older(engine, shape, 1, copy=copy)
        points, _ = await store.get(Get(user_id=1, point_ids=["mem_1_1", "mem_1_2"]), timeout_s=5)
        assert [(point.point_id, point.payload["value"]) for point in points] == [
            ("mem_1_1", "new"),
            ("mem_1_2", "new"),
        ]
