"""Collections are made according to the settings, checked before use, and made once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from qdrant_client import grpc as q

from memory_worker.contract.errors import ConfigurationError, StoreUnavailable
from memory_worker.store.operations import CollectionRef
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import DIMENSION
from tests.integration.proxies import Call, QdrantProxy, lose_reply, unavailable

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
MEMORY_INDEXES = {
    "user_id": q.PayloadSchemaType.Integer,
    "category": q.PayloadSchemaType.Keyword,
    "_point_id": q.PayloadSchemaType.Keyword,
    "active": q.PayloadSchemaType.Bool,
    "created": q.PayloadSchemaType.Integer,
    "updated": q.PayloadSchemaType.Integer,
    "embedding_model_id": q.PayloadSchemaType.Integer,
}
DOCUMENT_INDEXES = {
    "user_id": q.PayloadSchemaType.Integer,
    "file_id": q.PayloadSchemaType.Integer,
    "group_key": q.PayloadSchemaType.Keyword,
    "_point_id": q.PayloadSchemaType.Keyword,
    "created": q.PayloadSchemaType.Integer,
    "embedding_model_id": q.PayloadSchemaType.Integer,
    "_version": q.PayloadSchemaType.Integer,
}


def indexes(engine: Contents, collection: str) -> dict[str, Any]:
    return {field: schema.data_type for field, schema in engine.info(collection).payload_schema.items()}


async def test_the_collections_of_every_installation_are_made(
    store: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await store.prepare()
    assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES
    assert indexes(engine, shape.base("document")) == DOCUMENT_INDEXES
    for name in (shape.base("memory"), shape.base("document")):
        config = engine.info(name).config
        vectors = config.params.vectors_config.params
        assert (vectors.size, vectors.distance) == (DIMENSION, q.Distance.Cosine)
        assert config.hnsw_config.ef_construct == 100
        assert not config.HasField("quantization_config")
    await store.prepare()


async def test_a_collection_is_made_with_the_settings(
    qdrant_url: str, shape: CollectionShape, engine: Contents
) -> None:
    chosen = replace(shape, quantize_int8=True, hnsw_m=24, hnsw_ef_construct=77, on_disk=True)
    async with VectorStore(qdrant_url, chosen, api_key=API_KEY) as store:
        await store.prepare()
    config = engine.info(shape.base("memory")).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct, config.hnsw_config.on_disk) == (24, 77, True)
    assert config.params.vectors_config.params.on_disk
    scalar = config.quantization_config.scalar
    assert (scalar.type, scalar.always_ram) == (q.QuantizationType.Int8, True)
    assert scalar.quantile == pytest.approx(0.99)
    counts = (config.params.shard_number, config.params.replication_factor, config.params.write_consistency_factor)
    assert counts == (1, 1, 1)


async def test_a_known_collection_needs_no_more_requests(proxied_store: VectorStore, qdrant_proxy: QdrantProxy) -> None:
    names = await asyncio.gather(*(proxied_store.collections.ensure(MEMORIES) for _ in range(5)))
    assert len(set(names)) == 1
    assert qdrant_proxy.calls.count("Collections/Create") == 1
    qdrant_proxy.calls.clear()
    await proxied_store.collections.ensure(MEMORIES)
    assert qdrant_proxy.calls == []
    proxied_store.collections.forget(MEMORIES)
    await proxied_store.collections.ensure(MEMORIES)
    assert sorted(qdrant_proxy.calls) == ["Collections/Get", "Collections/List", "Collections/ListAliases"]


async def test_missing_indexes_are_added(store: VectorStore, shape: CollectionShape, engine: Contents) -> None:
    engine.create(shape.base("memory"))
    await store.collections.ensure(MEMORIES)
    assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES


async def test_a_namespace_has_its_own_collection(store: VectorStore, shape: CollectionShape, engine: Contents) -> None:
    feedback = CollectionRef("memory", "feedback_positive")
    assert await store.collections.ensure(feedback) == f"{shape.base('memory')}_feedback_positive"
    assert indexes(engine, f"{shape.base('memory')}_feedback_positive") == MEMORY_INDEXES
    for foreign in (f"{shape.base('memory')}_UPPER", f"{shape.base('memory')}-2", f"{shape.base('document')}_x"):
        engine.create(foreign)
    await store.prepare()
    existing = await store.collections.existing()
    assert sorted(existing, key=str) == sorted([feedback, MEMORIES, DOCUMENTS], key=str)


async def test_several_workers_make_a_collection_at_the_same_time(
    qdrant_url: str, shape: CollectionShape, engine: Contents
) -> None:
    async with (
        VectorStore(qdrant_url, shape, api_key=API_KEY) as first,
        VectorStore(qdrant_url, shape, api_key=API_KEY) as second,
        VectorStore(qdrant_url, shape, api_key=API_KEY) as third,
    ):
        await asyncio.gather(*(store.prepare() for store in (first, second, third)))
    assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES
    assert indexes(engine, shape.base("document")) == DOCUMENT_INDEXES


@pytest.mark.parametrize("size", [DIMENSION, 2 * DIMENSION], ids=["same dimension", "another dimension"])
async def test_a_collection_that_another_worker_has_just_made_is_checked(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents, size: int
) -> None:
    async def create_first(call: Call) -> Any:
        engine.create(shape.base("memory"), size=size)
        return await call.forward()

    qdrant_proxy.rules["Collections/Create"] = create_first
    if size == DIMENSION:
        await proxied_store.collections.ensure(MEMORIES)
        assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES
    else:
        with pytest.raises(ConfigurationError, match="dimension 16"):
            await proxied_store.collections.ensure(MEMORIES)


async def test_a_collection_is_used_if_the_reply_to_its_creation_was_lost(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    qdrant_proxy.rules["Collections/Create"] = lose_reply
    await proxied_store.collections.ensure(MEMORIES)
    assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES


async def test_a_failed_creation_is_tried_again(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    qdrant_proxy.rules["Collections/Create"] = unavailable
    with pytest.raises(StoreUnavailable):
        await proxied_store.collections.ensure(MEMORIES)
    assert shape.base("memory") not in engine.names()
    qdrant_proxy.rules.clear()
    await proxied_store.collections.ensure(MEMORIES)
    assert indexes(engine, shape.base("memory")) == MEMORY_INDEXES


async def test_a_collection_of_another_dimension_is_refused(
    store: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    engine.create(shape.base("memory"), size=DIMENSION + 1)
    with pytest.raises(
        ConfigurationError, match=f"{shape.base('memory')} has dimension 9, .*QDRANT_VECTOR_DIMENSION is 8"
    ):
        await store.prepare()
    with pytest.raises(ConfigurationError):
        await store.collections.describe_and_check(MEMORIES)
    assert indexes(engine, shape.base("memory")) == {}


@pytest.mark.parametrize("distance", ["Dot", "Euclid"])
async def test_a_collection_with_another_distance_is_refused(
    store: VectorStore, shape: CollectionShape, engine: Contents, distance: str
) -> None:
    engine.create(shape.base("document"), distance=q.Distance.Value(distance))
    with pytest.raises(ConfigurationError, match=f"{shape.base('document')} measures {distance}"):
        await store.prepare()


async def test_a_collection_with_named_vectors_is_refused(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    async def name_the_vectors(call: Call) -> Any:
        answer = await call.forward()
        params = answer.result.config.params.vectors_config.params
        named = q.VectorsConfig(params_map=q.VectorParamsMap(map={"text": params}))
        answer.result.config.params.vectors_config.CopyFrom(named)
        return answer

    engine.create(shape.base("memory"))
    qdrant_proxy.rules["Collections/Get"] = name_the_vectors
    with pytest.raises(ConfigurationError, match="named vectors"):
        await proxied_store.prepare()


async def test_a_collection_that_does_not_exist_is_not_described(store: VectorStore) -> None:
    assert await store.collections.describe(MEMORIES) is None
    assert await store.collections.describe_and_check(MEMORIES) is None
    assert await store.info() == []


async def test_collections_are_described(store: VectorStore, shape: CollectionShape) -> None:
    await store.prepare()
    await store.collections.ensure(CollectionRef("memory", "n"))
    infos = {info.name: info for info in await store.info()}
    assert set(infos) == {shape.base("memory"), shape.base("document"), f"{shape.base('memory')}_n"}
    assert infos[f"{shape.base('memory')}_n"].namespace == "n"
    assert infos[shape.base("document")].kind == "document"
    assert infos[shape.base("document")].payload_indexes == sorted(DOCUMENT_INDEXES)
    assert {(info.dimension, info.points, info.status) for info in infos.values()} == {(DIMENSION, 0, "green")}
