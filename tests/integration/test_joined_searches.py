"""Searches that are asked for at once go as one request, and each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from memory_worker.contract import Hit, Search
from memory_worker.errors import StoreRefused, StoreUnavailable
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.store import MOST_JOINED, VectorStore
from memory_worker.vectors import pack_vector
from tests.integration.jobs import axis, memory
from tests.integration.proxies import Call, QdrantProxy, Refusal

QUERY, BATCH = "Points/Query", "Points/QueryBatch"


def asked(qdrant_proxy: QdrantProxy) -> list[str]:
    """What the store has asked Qdrant for, but for writes and collections."""
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


async def test_each_gets_its_own(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    users = range(1, MOST_JOINED + 4)
    found = await asyncio.gather(*(search(filled, user) for user in users))
    assert [[hit.point_id for hit in hits] for hits in found] == [[f"mem_{user}_1"] for user in users]
    assert asked(qdrant_proxy) == [BATCH, BATCH]


async def test_one_alone_goes_alone(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    assert len(await search(filled, 1)) == 1
    assert asked(qdrant_proxy) == [QUERY]


async def test_a_namespace_that_is_not_there_is_empty_and_bothers_nobody(
    filled: VectorStore, qdrant_proxy: QdrantProxy
) -> None:
    found = await asyncio.gather(
        search(filled, 1), search(filled, 2), search(filled, 1, namespace="none"), search(filled, 2, namespace="none")
    )
    assert [len(hits) for hits in found] == [1, 1, 0, 0]
    assert asked(qdrant_proxy) == [BATCH, BATCH]


async def test_one_that_is_refused_is_refused_alone(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    one, bad, other = await asyncio.gather(
        search(filled, 1), search(filled, 2, vector=pack_vector([1.0])), search(filled, 3), return_exceptions=True
    )
    assert isinstance(bad, StoreRefused)
    assert [[hit.point_id for hit in hits] for hits in (one, other) if not isinstance(hits, BaseException)] == [
        ["mem_1_1"],
        ["mem_3_1"],
    ]
    assert asked(qdrant_proxy) == [BATCH, QUERY, QUERY, QUERY]


async def test_an_outage_is_everybodys(filled: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    async def fail(call: Call) -> Any:
        raise Refusal(grpc.StatusCode.UNAVAILABLE)

    qdrant_proxy.rules[BATCH] = fail
    found = await asyncio.gather(*(search(filled, user) for user in range(1, 4)), return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in found)
