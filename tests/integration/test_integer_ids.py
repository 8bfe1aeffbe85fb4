"""An upsert deletes older copies under integer ids, except in a collection whose pin says that there are none."""

from __future__ import annotations

import pytest

from memory_worker.contract.kinds import primary_id
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.store.operations import CollectionRef, DeletePoints, UpsertPoints
from memory_worker.store.pins import pin_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import memory
from tests.integration.proxies import UPDATE, QdrantProxy

MEMORIES = CollectionRef("memory")


def older(engine: Contents, shape: CollectionShape, number: int) -> None:
    """Write a memory of user 1 under an integer id, as older versions of the main app did."""
    vector = [1.0] + [0.0] * 7
    engine.insert(shape.base("memory"), number, vector, user_id=1, _point_id=f"mem_1_{number}", active=True)


async def write(store: VectorStore, number: int = 1) -> None:
    await store.apply(MEMORIES, [UpsertPoints((memory(1, number),))], timeout_s=5)


async def writes_delete(store: VectorStore, proxy: QdrantProxy) -> bool:
    """Write a point. Return whether the request also deletes older copies."""
    sent: list[int] = []

    async def see(call):  # type: ignore[no-untyped-def]
        sent.append(len(call.request.operations))
        return await call.forward()

    proxy.rules[UPDATE] = see
    await write(store)
    return sent == [2]


def new_store(proxy: QdrantProxy, shape: CollectionShape, registry: CollectionRegistry) -> VectorStore:
    return VectorStore(proxy.url, shape, registry=registry, api_key=API_KEY)


async def test_a_collection_that_a_worker_made_needs_no_deletes(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, registry: CollectionRegistry
) -> None:
    assert not await writes_delete(proxied_store, qdrant_proxy)
    async with new_store(qdrant_proxy, shape, registry) as another:
        assert not await writes_delete(another, qdrant_proxy)


async def test_an_adopted_collection_needs_them(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    engine.create(shape.base("memory"))
    older(engine, shape, 1)
    assert await writes_delete(proxied_store, qdrant_proxy)
    assert engine.primary_ids(shape.base("memory")) == {primary_id("mem_1_1")}


async def test_a_rekeyed_collection_needs_none(
    proxied_store: VectorStore,
    qdrant_proxy: QdrantProxy,
    shape: CollectionShape,
    engine: Contents,
    registry: CollectionRegistry,
) -> None:
    engine.create(shape.base("memory"))
    await write(proxied_store)
    await proxied_store.collections.mark_rekeyed(MEMORIES)
    assert await registry.names() == {"memory": "rekeyed"}
    pin = pin_of(engine.info(shape.base("memory")), MEMORIES)
    assert pin is not None
    assert pin.origin == "rekeyed"
    async with new_store(qdrant_proxy, shape, registry) as another:
        assert not await writes_delete(another, qdrant_proxy)
        assert another.collections.origin(MEMORIES) == "rekeyed"


async def test_a_made_collection_stays_made(store: VectorStore, registry: CollectionRegistry) -> None:
    await write(store)
    await store.collections.mark_rekeyed(MEMORIES)
    assert await registry.names() == {"memory": "made"}


@pytest.mark.parametrize("origin", ["made", "rekeyed"])
async def test_the_registry_alone_excludes_nothing(
    proxied_store: VectorStore,
    qdrant_proxy: QdrantProxy,
    shape: CollectionShape,
    engine: Contents,
    registry: CollectionRegistry,
    origin: str,
) -> None:
    """Others may have dropped the collection and created it again."""
    engine.create(shape.base("memory"))
    await registry.add("memory", origin)
    assert await writes_delete(proxied_store, qdrant_proxy)


async def test_a_lost_registry_changes_nothing(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, registry: CollectionRegistry
) -> None:
    await write(proxied_store)
    await registry._redis.delete(registry._keys.collections)
    async with new_store(qdrant_proxy, shape, registry) as another:
        assert not await writes_delete(another, qdrant_proxy)
    assert await registry.names() == {"memory": "made"}


async def test_a_collection_that_others_have_created_again_needs_them(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    await write(proxied_store)
    engine.drop(shape.base("memory"))
    engine.create(shape.base("memory"))
    proxied_store.collections.forget(MEMORIES)
    assert proxied_store.collections.may_have_integer_ids(MEMORIES)  # until it has been checked again
    assert await writes_delete(proxied_store, qdrant_proxy)


async def test_a_delete_reaches_either_id_in_every_collection(
    store: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await write(store, 2)
    older(engine, shape, 1)
    await store.apply(MEMORIES, [DeletePoints(("mem_1_1", "mem_1_2"))], timeout_s=5)
    assert engine.primary_ids(shape.base("memory")) == set()
