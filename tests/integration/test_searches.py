"""What a search leaves out, in which namespaces it searches, and what it returns."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Search
from memory_worker.contract.errors import InvalidJob, ReadFailed
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from tests.integration.conftest import Contents, MakeSettings, Stored, running
from tests.integration.jobs import axis, chunk, memory
from tests.integration.proxies import Call, QdrantProxy, Refusal


async def ids(queue: MemoryQueue, **search: Any) -> list[str]:
    chosen = {"user_id": 1, "limit": 200, **search}
    if "like" not in chosen:
        chosen.setdefault("vector", axis(0))
    return [hit.point_id for hit in await queue.search(**chosen)]


class TestLeftOut:
    async def test_points_of_some_categories_are_left_out(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(memory(1, 1, category="a"), memory(1, 2, category="b"), memory(1, 3, category="c"), memory(1, 4))
        assert set(await ids(queue, not_category=["a", "c"])) == {"mem_1_2", "mem_1_4"}
        assert set(await ids(queue, not_category={"x"})) == {f"mem_1_{number}" for number in range(1, 5)}
        assert await ids(queue, not_category=["a"], category="a") == []
        with pytest.raises(InvalidJob, match="not_category"):
            await ids(queue, kind="document", not_category=["a"])

    async def test_points_are_excluded_by_their_ids(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(*(memory(1, number) for number in range(4)))
        for number in (3, 7, 8):
            engine.insert(shape.base("memory"), number, [1.0] * 8, user_id=1, active=True, _point_id=f"mem_1_{number}")
        assert set(await ids(queue, min_score=0, exclude=["mem_1_1", "mem_1_3", "mem_1_7", "mem_1_99"])) == {
            "mem_1_0",
            "mem_1_2",
            "mem_1_8",
        }

    async def test_left_out_points_do_not_count_for_the_limit(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(memory(1, number, category="hidden", embedding_model_id=1) for number in range(150)))
        await stored(memory(1, 200, tilt=0.2, embedding_model_id=2), memory(1, 201, tilt=0.3))
        fresh = {"is": 2, "or_absent": True}
        assert await ids(queue, limit=2, not_category=["hidden"]) == ["mem_1_200", "mem_1_201"]
        assert await ids(queue, limit=2, where={"embedding_model_id": fresh}) == ["mem_1_200", "mem_1_201"]
        assert await ids(queue, limit=2, where={"embedding_model_id": 2}) == ["mem_1_200"]

    async def test_a_search_finds_up_to_200_points(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(memory(1, number) for number in range(230)))
        assert len(set(await ids(queue))) == 200
        with pytest.raises(InvalidJob, match="limit"):
            await ids(queue, limit=201)


class TestLike:
    async def test_the_points_nearest_to_a_point_are_found_without_it(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(*(chunk(1, 5, number, at=3, tilt=number / 10) for number in (3, 0, 2, 1)), chunk(2, 5, 9, at=3))
        assert await ids(queue, kind="document", like="doc_1_5_0") == ["doc_1_5_1", "doc_1_5_2", "doc_1_5_3"]
        assert await ids(queue, kind="document", like="doc_1_5_0", limit=1) == ["doc_1_5_1"]
        assert await ids(queue, kind="document", like="doc_1_5_0", exclude=["doc_1_5_1"], limit=1) == ["doc_1_5_2"]

    async def test_nothing_is_like_a_point_that_does_not_exist(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1))
        engine.insert(
            shape.base("memory"), 5, [1.0] * 8, user_id=2, active=True, _point_id="mem_1_5"
        )  # of another user
        assert await ids(queue, like="mem_1_99") == []
        assert await ids(queue, like="mem_1_5", min_score=-1) == []
        assert await ids(queue, like="mem_1_1", namespace="never-used") == []
        with pytest.raises(InvalidJob, match="like"):
            await ids(queue, like="mem_2_1")
        with pytest.raises(InvalidJob, match="give either vector or like"):
            await ids(queue, like="mem_1_1", vector=axis(0))

    async def test_the_newer_copy_has_the_vector_and_no_copy_is_found(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1, at=0, active=False), memory(1, 2, at=0), memory(1, 3, at=4))
        engine.insert(shape.base("memory"), 1, list(memoryview(axis(4)).cast("f")), user_id=1, _point_id="mem_1_1")
        engine.insert(shape.base("memory"), 9, list(memoryview(axis(4)).cast("f")), user_id=1, _point_id="mem_1_9")
        assert await ids(queue, like="mem_1_1") == ["mem_1_2"]
        assert await ids(queue, like="mem_1_9") == ["mem_1_3"]

    async def test_the_point_may_be_in_any_of_the_namespaces(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(memory(1, 1, namespace="n"), memory(1, 1, at=4, namespace="m"), memory(1, 2, tilt=0.1))
        found = await queue.search(user_id=1, like="mem_1_1", namespaces=[None, "n", "m"])
        assert [(hit.point_id, hit.namespace) for hit in found] == [("mem_1_2", None)]
        assert await ids(queue, like="mem_1_1", namespaces=[None, "m"]) == []


class TestNamespaces:
    async def test_hits_of_several_namespaces_are_merged_by_score(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored
    ) -> None:
        await stored(
            memory(1, 1, tilt=0.1),
            memory(1, 2, tilt=0.4),
            memory(1, 1, tilt=0.2, namespace="n"),
            memory(1, 3, tilt=0.3, namespace="n"),
            memory(1, 4, namespace="m"),
            memory(2, 1, namespace="n"),
        )
        found = await queue.search(user_id=1, vector=axis(0), namespaces=["n", None, "never-used", "n"])
        assert [(hit.point_id, hit.namespace) for hit in found] == [
            ("mem_1_1", None),
            ("mem_1_1", "n"),
            ("mem_1_3", "n"),
            ("mem_1_2", None),
        ]
        assert await ids(queue, namespaces=["n", "m", None], limit=2) == ["mem_1_4", "mem_1_1"]
        assert await ids(queue, namespaces=["never-used"]) == []
        with pytest.raises(InvalidJob, match="give either namespace or namespaces"):
            await ids(queue, namespace="n", namespaces=["m"])
        with pytest.raises(InvalidJob, match="namespaces"):
            await ids(queue, namespaces=["*"])

    async def test_namespaces_are_searched_at_the_same_time(
        self, settings: MakeSettings, queue: MemoryQueue, stored: Stored, qdrant_proxy: QdrantProxy
    ) -> None:
        await stored(memory(1, 1), memory(1, 2, namespace="n"))
        both, arrived = asyncio.Event(), []

        async def wait_for_both(call: Call) -> Any:
            arrived.append(call.request.collection_name)
            if len(arrived) == 2:
                both.set()
            await both.wait()
            return await call.forward()

        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            qdrant_proxy.rules["Points/Query"] = wait_for_both
            assert set(await ids(queue, namespaces=[None, "n"])) == {"mem_1_1", "mem_1_2"}
        assert len(set(arrived)) == 2

    async def test_an_error_in_one_namespace_fails_the_search(
        self, settings: MakeSettings, queue: MemoryQueue, stored: Stored, qdrant_proxy: QdrantProxy
    ) -> None:
        await stored(memory(1, 1), memory(1, 2, namespace="n"))

        async def fail_in_namespace(call: Call) -> Any:
            if call.request.collection_name.endswith("_n"):
                raise Refusal(grpc.StatusCode.INTERNAL)
            return await call.forward()

        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            qdrant_proxy.rules["Points/Query"] = fail_in_namespace
            with pytest.raises(ReadFailed, match="unavailable"):
                await ids(queue, namespaces=[None, "n"])
            assert await ids(queue, namespaces=[None]) == ["mem_1_1"]

    async def test_a_missing_base_collection_is_an_error(
        self, app: WorkerProcess, queue: MemoryQueue, stored: Stored, shape: CollectionShape, engine: Contents
    ) -> None:
        await stored(memory(1, 1, namespace="n"))
        engine.drop(shape.base("memory"))
        assert await ids(queue, namespaces=["n"]) == ["mem_1_1"]
        with pytest.raises(ReadFailed, match="unavailable"):
            await ids(queue, namespaces=["n", None])


class TestFields:
    async def test_only_these_fields_are_returned(self, app: WorkerProcess, queue: MemoryQueue, stored: Stored) -> None:
        await stored(memory(1, 1, value="v", key="k", **{"my field": 1, "a.b": 2, "a": {"b": 3, "c": 4}, "Ä": 5}))

        async def fields(*names: str) -> dict[str, Any]:
            (hit,) = await queue.search(user_id=1, vector=axis(0), fields=names)
            (point,) = await queue.get(user_id=1, point_ids=["mem_1_1"], fields=names)
            (listed,) = (await queue.list(user_id=1, fields=names)).points
            assert hit.point_id == point.point_id == listed.point_id == "mem_1_1"
            assert hit.payload == point.payload == listed.payload
            return hit.payload

        assert await fields("value") == {"value": "v"}
        assert await fields("value", "_point_id") == {"value": "v", "_point_id": "mem_1_1"}
        assert await fields("none") == {}
        assert await fields("my field", "a.b", "Ä") == {"my field": 1, "a.b": 2, "Ä": 5}
        assert await fields("a") == {"a": {"b": 3, "c": 4}}
        with pytest.raises(InvalidJob, match="fields"):
            await queue.search(user_id=1, vector=axis(0), fields=[])


class TestSearchMany:
    async def test_each_search_has_its_own_hits(self, app: WorkerProcess, queue: MemoryQueue, stored: Stored) -> None:
        await stored(memory(1, 1), memory(1, 2, at=4), memory(2, 1), memory(1, 3, namespace="n"), chunk(1, 5, 0))
        found = await queue.search_many(
            [
                {"user_id": 1, "vector": axis(0)},
                {"user_id": 1, "vector": list(memoryview(axis(4)).cast("f")), "limit": 1},
                Search(user_id=2, vector=axis(0)),
                {"user_id": 1, "like": "mem_1_1"},
                {"user_id": 1, "vector": axis(0), "namespaces": [None, "n"]},
                {"user_id": 1, "vector": axis(0), "file_id": 5},
                {"user_id": 1, "vector": axis(0), "namespace": "never-used"},
            ]
        )
        assert [result.error for result in found] == [None] * 7
        assert [{hit.point_id for hit in result.hits or []} for result in found] == [
            {"mem_1_1"},
            {"mem_1_2"},
            {"mem_2_1"},
            set(),
            {"mem_1_1", "mem_1_3"},
            {"doc_1_5_0"},
            set(),
        ]

    async def test_searches_are_sent_together_and_fail_alone(
        self, settings: MakeSettings, queue: MemoryQueue, stored: Stored, qdrant_proxy: QdrantProxy
    ) -> None:
        await stored(*(memory(user, 1) for user in range(1, 17)))
        searches = [{"user_id": user, "vector": axis(0)} for user in range(1, 17)]

        async def fail_for_user_2(call: Call) -> Any:
            if "integer: 2\n" in str(call.request):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT)
            return await call.forward()

        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            assert len(await queue.search_many(searches)) == 16
            assert [name for name in qdrant_proxy.calls if "Query" in name] == ["Points/QueryBatch"]
            qdrant_proxy.rules = dict.fromkeys(["Points/Query", "Points/QueryBatch"], fail_for_user_2)
            found = await queue.search_many(searches)
        errors = [result.error.code if result.error else None for result in found]
        assert errors == [None, "invalid", *[None] * 14]
        assert [len(result.hits or []) for result in found] == [1, 0, *[1] * 14]

    async def test_a_search_that_is_too_slow_does_not_lose_the_others(
        self, settings: MakeSettings, queue: MemoryQueue, stored: Stored, qdrant_proxy: QdrantProxy
    ) -> None:
        await stored(memory(1, 1), memory(1, 2, namespace="n"))

        async def hang_in_namespace(call: Call) -> Any:
            if call.request.collection_name.endswith("_n"):
                await asyncio.Event().wait()
            return await call.forward()

        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            qdrant_proxy.rules["Points/Query"] = hang_in_namespace
            searches = [{"user_id": 1, "vector": axis(0), "namespace": namespace} for namespace in (None, "n")]
            quick, slow = await queue.search_many(searches, timeout=1)
        assert [hit.point_id for hit in quick.hits or []] == ["mem_1_1"]
        assert slow.error is not None
        assert slow.error.code == "timeout"

    async def test_wrong_arguments_are_named(self, queue: MemoryQueue) -> None:
        good = {"user_id": 1, "vector": [1.0] * 8}
        for searches, field in [
            ([], "searches"),
            ([good] * 17, "searches"),
            ([good, {"user_id": 1}], r"searches\[1\]\.vector"),
            ([{"vector": [1.0]}], r"searches\[0\]\.user_id"),
            ([{**good, "where": {"no_field": 1}}], r"searches\[0\]\.where\.no_field"),
            ([{**good, "timeout_ms": 5}], r"searches\[0\]"),
            ([5], r"searches\[0\]"),
            (good, "searches"),
        ]:
            with pytest.raises(InvalidJob, match=rf"^{field}: "):
                await queue.search_many(searches)
