"""Lists: each point comes once, whatever the size of the pages."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import List, Point
from memory_worker.contract.errors import InvalidJob, ReadFailed, StoreRefused
from memory_worker.contract.kinds import primary_id
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.operations import CollectionRef, DeletePoints
from memory_worker.store.reader import AnswerLimits, Read
from memory_worker.store.registry import Registry
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY, Contents, Stored
from tests.integration.jobs import chunk, memory
from tests.integration.proxies import QdrantProxy

MOST_PAGES = 500


async def pages(store: VectorStore, **job: Any) -> list[list[Point]]:
    """Return all pages of a list."""
    found: list[list[Point]] = []
    cursor = None
    while len(found) < MOST_PAGES:
        page = await store.listing.page(List(**{"user_id": 1, **job}, cursor=cursor), Read(10))
        found.append(page.points)
        cursor = page.cursor
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


async def listed(store: VectorStore, **job: Any) -> list[str]:
    return [point.point_id for page in await pages(store, **job) for point in page]


class TestOrder:
    @pytest.mark.parametrize("copies", [False, True])
    async def test_each_point_comes_once_in_any_order(
        self,
        store: VectorStore,
        stored: Stored,
        shape: CollectionShape,
        engine: Contents,
        seed: int,
        copies: bool,
    ) -> None:
        chosen = random.Random(seed)
        created = {}
        for number in range(60):
            value = chosen.choice([None, None, -5, 0, 1, 1, 2, 2, 2, 2, 3, chosen.randint(-100, 100), 2**50])
            created[f"mem_1_{number}"] = value
        await stored(
            *(memory(1, number, created=value) for number, value in enumerate(created.values()) if value is not None),
            *(memory(1, number) for number, value in enumerate(created.values()) if value is None),
            *(memory(2, number, created=1) for number in range(20)),
            memory(1, 99, created=1, active=False),
        )
        for number in range(0, 80, 3) if copies else ():  # some of them of points that have no newer copy
            value = chosen.choice([1, 2, 7])
            payload = {"user_id": 1, "active": True, "_point_id": f"mem_1_{number}", "created": value}
            engine.insert(shape.base("memory"), number, [1.0] * 8, **payload)
            created.setdefault(f"mem_1_{number}", value)
        for limit in (1, 2, 3, chosen.randint(4, 20), 59, 60, 61, 1000):
            found = await pages(store, order="created", limit=limit)
            ids = [point.point_id for page in found for point in page]
            assert sorted(ids) == sorted(created), limit
            values = [created[point_id] for point_id in ids]
            present = [value for value in values if value is not None]
            assert present == sorted(present, reverse=True), limit
            assert values == present + [None] * (len(values) - len(present)), limit
            assert all(len(page) == limit for page in found[:-2]), limit
            assert all(len(page) <= limit for page in found[-2:]), limit
            in_order_of_ids = await listed(store, limit=limit)
            assert sorted(in_order_of_ids) == sorted(created), limit
            newer = [point_id for point_id in in_order_of_ids if int(point_id.split("_")[2]) < 60]
            assert newer == sorted(newer, key=primary_id), limit

    async def test_values_of_another_type_come_with_the_absent_ones(
        self, store: VectorStore, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1, updated=5), memory(1, 2))
        for number, value in enumerate(["2024-01-01", 1.5, None, [], True, {"a": 1}]):
            payload = {"user_id": 1, "active": True, "_point_id": f"mem_1_{10 + number}", "updated": value}
            engine.insert(shape.base("memory"), primary_id(f"mem_1_{10 + number}"), [1.0] * 8, **payload)
        for limit in (1, 3, 100):
            found = await listed(store, order="updated", limit=limit)
            assert found[0] == "mem_1_1"
            assert sorted(found) == sorted(["mem_1_1", "mem_1_2", *(f"mem_1_{10 + number}" for number in range(6))])

    async def test_very_large_values_are_refused_instead_of_being_lost(
        self, store: VectorStore, stored: Stored
    ) -> None:
        await stored(*(memory(1, number, created=2**60 + number) for number in range(5)))
        assert len(await listed(store, order="created", limit=5)) == 5
        with pytest.raises(StoreRefused, match="created"):
            await listed(store, order="created", limit=2)

    async def test_points_that_stay_come_once_while_others_change(
        self, store: VectorStore, stored: Stored, seed: int
    ) -> None:
        chosen = random.Random(seed)
        await stored(*(memory(1, number, created=number % 7) for number in range(40)))
        for order in ("id", "created"):
            found: list[str] = []
            cursor = None
            for turn in range(MOST_PAGES):
                page = await store.listing.page(List(user_id=1, order=order, limit=3, cursor=cursor), Read(10))  # type: ignore[arg-type]
                found += [point.point_id for point in page.points]
                cursor = page.cursor
                if cursor is None:
                    break
                await stored(memory(1, 1000 + turn % 5, created=chosen.randrange(7)))
                gone = DeletePoints((f"mem_1_{1000 + (turn + 2) % 5}",))
                await store.apply(CollectionRef("memory"), [gone], timeout_s=5)
            stayed = [point_id for point_id in found if int(point_id.split("_")[2]) < 1000]
            assert sorted(stayed) == sorted(f"mem_1_{number}" for number in range(40)), order


class TestSelection:
    async def test_points_are_selected(self, app: WorkerProcess, queue: MemoryQueue, stored: Stored) -> None:
        await stored(
            memory(1, 1, category="a"),
            memory(1, 2, category="b", message_id=7),
            memory(1, 3, category="a", active=False),
            memory(1, 4, namespace="n"),
            memory(2, 1),
            chunk(1, 5, 0, group_key="g"),
            chunk(1, 6, 0, group_key="h"),
        )

        async def ids(**selected: Any) -> set[str]:
            page = await queue.list(user_id=1, **selected)
            assert page.cursor is None
            return {point.point_id for point in page.points}

        assert await ids() == {"mem_1_1", "mem_1_2"}
        assert await ids(active=True) == {"mem_1_1", "mem_1_2"}
        assert await ids(active=False) == {"mem_1_3"}
        assert await ids(active="any") == {"mem_1_1", "mem_1_2", "mem_1_3"}
        assert await ids(active="any", category="a") == {"mem_1_1", "mem_1_3"}
        assert await ids(where={"message_id": {"gte": 1}}) == {"mem_1_2"}
        assert await ids(namespace="n") == {"mem_1_4"}
        assert await ids(namespace="never-used") == set()
        assert await ids(namespace="never-used", order="created") == set()
        assert await ids(kind="document") == {"doc_1_5_0", "doc_1_6_0"}
        assert await ids(file_id=5) == {"doc_1_5_0"}
        assert await ids(group_key="h", file_id=5) == set()
        (point,) = (await queue.list(user_id=1, namespace="n", fields=["active"])).points
        assert point == Point("mem_1_4", {"active": True}, "n")

    async def test_wrong_arguments_are_invalid(self, app: WorkerProcess, queue: MemoryQueue) -> None:
        for wrong in (
            {"limit": 0},
            {"limit": 1001},
            {"order": "value"},
            {"active": "yes"},
            {"kind": "document", "order": "updated"},
            {"namespace": "*"},
            {"category": None},
        ):
            with pytest.raises(InvalidJob):
                await queue.list(user_id=1, **wrong)  # type: ignore[arg-type]

    async def test_wrong_cursors_are_invalid(self, app: WorkerProcess, queue: MemoryQueue, stored: Stored) -> None:
        await stored(*(memory(1, number, created=number) for number in range(3)))
        by_id = (await queue.list(user_id=1, limit=1)).cursor
        by_time = (await queue.list(user_id=1, limit=1, order="created")).cursor
        for cursor, order in [("x", "id"), ("", "id"), (by_time, "id"), (by_id, "created"), (by_time, "updated")]:
            with pytest.raises(ReadFailed, match=r"^invalid: cursor: "):
                await queue.list(user_id=1, order=order, cursor=cursor)  # type: ignore[arg-type]

    async def test_a_missing_base_collection_is_an_error(
        self, app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.drop(shape.base("memory"))
        for order in ("id", "created"):
            with pytest.raises(ReadFailed, match="unavailable"):
                await queue.list(user_id=1, order=order)  # type: ignore[arg-type]


@pytest.fixture
async def bounded(qdrant_proxy: QdrantProxy, shape: CollectionShape, registry: Registry) -> AsyncIterator[VectorStore]:
    """A store that accepts answers of up to 4 MiB, of which those above 256 KiB are large."""
    limits = AnswerLimits(262_144, 4_194_304)
    async with VectorStore(qdrant_proxy.url, shape, registry=registry, api_key=API_KEY, answers=limits) as opened:
        yield opened


class TestSize:
    @pytest.mark.parametrize("order", ["id", "created"])
    async def test_a_page_ends_before_it_is_too_large(
        self, bounded: VectorStore, stored: Stored, seed: int, order: str
    ) -> None:
        chosen = random.Random(seed)
        for first in range(0, 60, 10):
            texts = ["x" * chosen.choice([10, 100_000, 50_000]) for _ in range(10)]
            await stored(*(memory(1, first + at, value=text, created=at % 2) for at, text in enumerate(texts)))
        found = await pages(bounded, order=order, limit=50)
        assert sorted(point.point_id for page in found for point in page) == sorted(f"mem_1_{n}" for n in range(60))
        sizes = [sum(len(point.payload["value"]) for point in page) for page in found]
        assert all(size <= 1_048_576 for size in sizes)
        assert all(size > 900_000 for size, page in zip(sizes[:-1], found, strict=False) if len(page) < 50)
        assert len(found) > 2

    async def test_a_point_that_is_too_large_for_a_page_comes_alone(self, bounded: VectorStore, stored: Stored) -> None:
        for number in range(3):
            await stored(memory(1, number, value="x" * 1_200_000))
        found = await pages(bounded, limit=50)
        assert [len(page) for page in found] == [1, 1, 1]

    async def test_a_page_of_small_points_takes_two_requests(
        self, bounded: VectorStore, stored: Stored, qdrant_proxy: QdrantProxy
    ) -> None:
        await stored(*(memory(1, number, created=number) for number in range(200)))
        for order in ("id", "created"):
            qdrant_proxy.calls.clear()
            assert len((await bounded.listing.page(List(user_id=1, order=order), Read(5))).points) == 100  # type: ignore[arg-type]
            assert list(qdrant_proxy.calls) == ["Points/Scroll"] * 2, order
