"""The requests that create collections and their payload indexes.

Graphs per user: with ``m = 0`` Qdrant builds no graph over all points. With ``payload_m`` it builds a graph for each
frequent value of each indexed field. An integer index is enough, so each frequent ``user_id`` gets a graph, which also
holds the points that the app wrote itself. But other fields would get graphs too (``active: true`` one over nearly all
points), and so would ranges of users. That is more work than one graph over all points. So in such a collection the
indexes are created with options that leave only the graphs of single users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdrant_client import grpc as q

from memory_worker.contract.fields import NARROWING
from memory_worker.contract.kinds import MODEL_FIELD, RANGE_FIELDS, TENANT_FIELD, USER_ID_FIELD, IndexType, KindName
from memory_worker.store.compatibility import DISTANCES
from memory_worker.store.shape import CollectionShape

_INDEX_TYPES: dict[IndexType, q.FieldType.ValueType] = {
    "integer": q.FieldType.FieldTypeInteger,
    "keyword": q.FieldType.FieldTypeKeyword,
    "bool": q.FieldType.FieldTypeBool,
}
_INDEX_PARAMS: dict[IndexType, str] = {
    "integer": "integer_index_params",
    "keyword": "keyword_index_params",
    "bool": "bool_index_params",
}
_INT8_QUANTILE = 0.99


def creation_of(name: str, kind: KindName, shape: CollectionShape) -> q.CreateCollection:
    """Return the request that creates a collection of a kind."""
    vectors = q.VectorParams(
        size=shape.dimension_of(kind), distance=DISTANCES[shape.kinds[kind].distance], on_disk=shape.on_disk
    )
    request = q.CreateCollection(
        collection_name=name,
        vectors_config=q.VectorsConfig(params=vectors),
        hnsw_config=q.HnswConfigDiff(
            m=shape.hnsw_m,
            payload_m=shape.hnsw_payload_m,
            ef_construct=shape.hnsw_ef_construct,
            on_disk=shape.on_disk,
        ),
        shard_number=shape.shard_number,
        replication_factor=shape.replication_factor,
        write_consistency_factor=shape.write_consistency_factor,
    )
    if shape.quantize_int8:
        request.quantization_config.scalar.CopyFrom(
            q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=_INT8_QUANTILE, always_ram=True)
        )
    return request


def index_of(name: str, field: str, index: IndexType, config: q.CollectionConfig) -> q.CreateFieldIndexCollection:
    """Return the request that indexes a payload field of a collection with this configuration."""
    request = q.CreateFieldIndexCollection(
        collection_name=name, wait=True, field_name=field, field_type=_INDEX_TYPES[index]
    )
    options = _index_options(field, index, graphs_of_users=_has_graphs_of_users(config))
    if options:
        params = getattr(request.field_index_params, _INDEX_PARAMS[index])
        for option, value in options.items():
            setattr(params, option, value)
    return request


def differing_settings(shape: CollectionShape, config: q.CollectionConfig) -> Iterator[str]:
    """Yield each setting without its default value from which a collection differs."""
    hnsw, default = config.hnsw_config, CollectionShape()
    payload_m = hnsw.payload_m if hnsw.HasField("payload_m") else None
    for variable, asked, usual, found in (
        ("QDRANT_HNSW_M", shape.hnsw_m, default.hnsw_m, hnsw.m),
        ("QDRANT_HNSW_PAYLOAD_M", shape.hnsw_payload_m, default.hnsw_payload_m, payload_m),
        ("QDRANT_HNSW_EF_CONSTRUCT", shape.hnsw_ef_construct, default.hnsw_ef_construct, hnsw.ef_construct),
    ):
        if asked not in (usual, found):
            yield f"{variable} {asked}, the collection has {'none' if found is None else found}"
    if shape.quantize_int8 and config.quantization_config.WhichOneof("quantization") != "scalar":
        yield "QDRANT_QUANTIZATION int8, the collection has none"


def _has_graphs_of_users(config: q.CollectionConfig) -> bool:
    return config.hnsw_config.m == 0 and config.hnsw_config.payload_m > 0


def _index_options(field: str, index: IndexType, *, graphs_of_users: bool) -> dict[str, Any]:
    """Return the options of an index, besides its type.

    Numbers that no search filters by get no graphs, in any collection.
    """
    if field == TENANT_FIELD:
        # It only orders the points on disk. Points that the app wrote do not have it, so ``user_id`` gets the graphs.
        return {"is_tenant": True, "enable_hnsw": False}
    if not graphs_of_users and (index != "integer" or field in (USER_ID_FIELD, *NARROWING)):
        return {}
    if field == USER_ID_FIELD:
        return {"lookup": True, "range": False} if index == "integer" else {}
    if index != "integer":
        return {"enable_hnsw": False}
    return {"lookup": field not in RANGE_FIELDS, "range": field != MODEL_FIELD, "enable_hnsw": False}
