"""Searches and gets at the same time are sent as one request, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from memory_worker.contract import Get, Hit, Search
from memory_worker.contract.errors import StoreError, StoreRefused, StoreUnavailable
from memory_worker.contract.vectors import pack_vector
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.queries import MAX_COALESCED
from memory_worker.store.reader import AnswerLimits
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.metrics import REGISTRY
from tests.integration.conftest import API_KEY
from tests.integration.jobs import axis, memory
from tests.integration.proxies import HOST, Call, QdrantProxy, Refusal, failing
from tests.servers import free_port

QUERY, BATCH = "Points/Query", "Points/QueryBatch"


def requests(qdrant_proxy: QdrantProxy) -> list[str]:
    """Return the searches that were sent to Qdrant."""
    return [name for name in qdrant_proxy.calls if name in (QUERY, BATCH)]


@pytest.fixture
async def filled(proxied_store: VectorStore) -> VectorStore:
    await proxied_store.prepare()
    points = [memory(user, 1, at=user % 8) for user in range(1, 25)]
    await proxied_store.apply(CollectionRef("memory"), [UpsertPoints(points)], timeout_s=5)
    return proxied_store


async def search(
    store: VectorStore, user_id: int, *, namespace: str | None = None, vector: bytes | None = None
) -> list[Hit]:
    job = Search(user_id=user_id, vector=vector or axis(user_id % 8), namespace=namespace)
    return (await store.search(job, timeout_s=5))[0]


async def test_each_search_gets_its_own_answer(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    users = range(1, MAX_COALESCED + 4)
    found = await asyncio.gather(*(search(filled, user) for user in users))
    assert [[hit.point_id for hit in hits] for hits in found] == [[f"mem_{user}_1"] for user in users]
    assert requests(qdrant_proxy) == [BATCH, BATCH]


async def test_gets_are_sent_together_with_searches(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    jobs = [Get(user_id=user, point_ids=[f"mem_{user}_1", f"mem_{user + 1}_1"]) for user in range(1, 5)]
    hits, *found = await asyncio.gather(search(filled, 9), *(filled.get(job, timeout_s=5) for job in jobs))
    assert [hit.point_id for hit in hits] == ["mem_9_1"]
    assert [[point.point_id for point in points] for points, _ in found] == [[f"mem_{user}_1"] for user in range(1, 5)]
    assert requests(qdrant_proxy) == [BATCH]


async def test_a_single_search_is_sent_alone(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    assert len(await search(filled, 1)) == 1
    assert requests(qdrant_proxy) == [QUERY]


async def test_a_missing_namespace_is_empty_and_the_other_searches_succeed(
    filled: VectorStore, qdrant_proxy: QdrantProxy
) -> None:
    found = await asyncio.gather(
        search(filled, 1), search(filled, 2), search(filled, 1, namespace="none"), search(filled, 2, namespace="none")
    )
    assert [len(hits) for hits in found] == [1, 1, 0, 0]
    assert requests(qdrant_proxy) == [BATCH, BATCH]


async def test_a_refused_search_fails_alone(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    one, bad, other = await asyncio.gather(
        search(filled, 1), search(filled, 2, vector=pack_vector([1.0])), search(filled, 3), return_exceptions=True
    )
    assert isinstance(bad, StoreRefused)
    assert [[hit.point_id for hit in hits] for hits in (one, other) if not isinstance(hits, BaseException)] == [
        ["mem_1_1"],
        ["mem_3_1"],
    ]
    assert requests(qdrant_proxy) == [BATCH, QUERY, QUERY, QUERY]


FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


async def test_a_search_that_fails_does_not_fail_the_others(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    for code in FAILURES:

        async def fail_for_user_2(call: Call, code: grpc.StatusCode = code) -> Any:
            if "integer: 2\n" in str(call.request.filter):
                raise Refusal(code)
            return await call.forward()

        qdrant_proxy.calls.clear()
        qdrant_proxy.rules = {BATCH: failing(code), QUERY: fail_for_user_2}
        found = await asyncio.gather(*(search(filled, user) for user in range(1, 9)), return_exceptions=True)
        assert [isinstance(hits, StoreError) for hits in found] == [user == 2 for user in range(1, 9)], code
        assert requests(qdrant_proxy) == [BATCH] + [QUERY] * 8, code


async def test_after_a_failed_request_each_search_is_sent_once_more(
    filled: VectorStore, qdrant_proxy: QdrantProxy
) -> None:
    for code in FAILURES:
        qdrant_proxy.calls.clear()
        qdrant_proxy.rules = {BATCH: failing(code), QUERY: failing(code)}
        found = await asyncio.gather(*(search(filled, user) for user in range(1, 4)), return_exceptions=True)
        assert all(isinstance(error, StoreError) for error in found), code
        assert requests(qdrant_proxy) == [BATCH] + [QUERY] * 3, code


async def test_a_qdrant_that_is_not_reachable_gets_one_request(shape: CollectionShape) -> None:
    def tries() -> list[float]:
        name, labels = "memory_worker_qdrant_request_duration_seconds_count", {"code": "UNAVAILABLE"}
        methods = ("query_batch", "query")
        return [REGISTRY.get_sample_value(name, {**labels, "method": method}) or 0 for method in methods]

    before = tries()
    async with VectorStore(f"http://{HOST}:{free_port()}", shape) as store:
        found = await asyncio.gather(*(search(store, user) for user in range(1, 9)), return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in found)
    assert tries() == [before[0] + 1, before[1]]


async def test_each_search_keeps_its_own_deadline(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    left_s: list[float] = []

    async def note(call: Call) -> Any:
        left_s.append(call.time_left_s)
        return await call.forward()

    qdrant_proxy.rules = {BATCH: failing(grpc.StatusCode.INTERNAL), QUERY: note}
    jobs = [Search(user_id=user, vector=axis(user)) for user in (1, 2)]
    await asyncio.gather(*(filled.search(job, timeout_s=s) for job, s in zip(jobs, (5, 50), strict=True)))
    assert [round(s / 5) for s in sorted(left_s)] == [1, 10]


class TestLargeAnswers:
    """Searches whose answers are too large together are sent in smaller requests from then on."""

    @pytest.fixture
    async def limited(self, qdrant_proxy: QdrantProxy, shape: CollectionShape) -> AsyncIterator[VectorStore]:
        limits = AnswerLimits(small_bytes=100_000, most_bytes=1_000_000)
        async with VectorStore(qdrant_proxy.url, shape, api_key=API_KEY, answers=limits) as store:
            await store.prepare()
            yield store

    async def test_large_answers_are_found_in_smaller_requests(
        self, limited: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        points = [memory(user, 1, at=user % 8, value="x" * 15_000) for user in range(1, 17)]
        await limited.apply(CollectionRef("memory"), [UpsertPoints(points)], timeout_s=5)
        requests = [await self.search_all(limited, qdrant_proxy) for _ in range(4)]
        assert requests == [{BATCH: 1, QUERY: 16}, {BATCH: 2, QUERY: 16}, {BATCH: 4}, {BATCH: 4}]

    async def search_all(self, store: VectorStore, qdrant_proxy: QdrantProxy) -> Counter[str]:
        qdrant_proxy.calls.clear()
        found = await asyncio.gather(*(search(store, user) for user in range(1, 17)))
        assert [len(hits) for hits in found] == [1] * 16
        return Counter(requests(qdrant_proxy))

    async def test_one_large_answer_makes_requests_smaller_for_some_time_only(
        self, limited: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        points = [memory(user, 1, at=user % 8, value="x" * 200) for user in range(1, 17)]
        large = [memory(17, 1, at=1, value="x" * 300_000)]
        await limited.apply(CollectionRef("memory"), [UpsertPoints([*points, *large])], timeout_s=5)
        found = await asyncio.gather(*(search(limited, user) for user in range(2, 18)))
        assert [len(hits) for hits in found] == [1] * 16
        for _ in range(33):  # 65 requests of half as many
            last = await self.search_all(limited, qdrant_proxy)
        assert last == {BATCH: 2}
        assert await self.search_all(limited, qdrant_proxy) == {BATCH: 1}


class TestMissingCollection:
    """A namespace is empty only if its collection is known not to exist."""

    async def test_not_found_for_another_reason_is_an_outage(
        self, filled: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        ref = CollectionRef("memory", "used")
        await filled.apply(ref, [UpsertPoints([memory(1, 1, namespace="used")])], timeout_s=5)
        not_found = failing(grpc.StatusCode.NOT_FOUND)
        qdrant_proxy.rules = {BATCH: not_found, QUERY: not_found, "Points/Scroll": not_found}
        found = await asyncio.gather(
            search(filled, 1, namespace="used"),
            search(filled, 2, namespace="used"),
            filled.get(Get(user_id=1, point_ids=["mem_1_1"], namespace="used"), timeout_s=5),
            search(filled, 1),
            filled.get(Get(user_id=1, point_ids=["mem_1_1"]), timeout_s=5),
            return_exceptions=True,
        )
        assert all(isinstance(error, StoreUnavailable) for error in found), found

    async def test_a_namespace_that_may_exist_is_an_outage(
        self, filled: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        for code in FAILURES:
            qdrant_proxy.rules = {"Collections/CollectionExists": failing(code)}
            with pytest.raises(StoreUnavailable, match="NOT_FOUND"):
                await search(filled, 1, namespace="none")
            with pytest.raises(StoreUnavailable, match="NOT_FOUND"):
                await filled.get(Get(user_id=1, point_ids=["mem_1_1"], namespace="none"), timeout_s=5)

    async def test_a_missing_base_collection_is_an_outage(self, proxied_store: VectorStore) -> None:
        with pytest.raises(StoreUnavailable, match="NOT_FOUND"):
            await search(proxied_store, 1)
