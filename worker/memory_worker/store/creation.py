"""How collections and their payload indexes are created.

Graphs of users. In a collection without a graph over all points (``m = 0``) but with links among those of a payload
value (``payload_m``), Qdrant builds a graph for each value that is frequent enough, of each field with an index. An
integer index will do, so ``user_id`` does, and points that the app wrote itself are in these graphs. But the values of
other fields would get graphs too, ``active: true`` one over nearly all points, and ranges of users as well: more work
than the graph that was to be spared. So there the indexes are made such that only single users get graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdrant_client import grpc as q

from memory_worker.contract.kinds import TENANT_FIELD, USER_ID_FIELD, IndexType
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


def creation_of(name: str, shape: CollectionShape) -> q.CreateCollection:
    """Return the request that creates a collection."""
    vectors = q.VectorParams(size=shape.dimension, distance=q.Distance.Cosine, on_disk=shape.on_disk)
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


def unlike_settings(shape: CollectionShape, config: q.CollectionConfig) -> Iterator[str]:
    """Yield what the settings ask for by name and a collection has not: it was made before, or by others."""
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
    """Return what is asked of an index beyond its type."""
    if field == TENANT_FIELD:
        # Points are laid out by it. Those without it, the app's own, would lack in its graphs: ``user_id`` has them.
        return {"is_tenant": True, "enable_hnsw": False}
    if not graphs_of_users:
        return {}
    if field == USER_ID_FIELD:
        return {"lookup": True, "range": False}
    ranges = {"lookup": True, "range": True} if index == "integer" else {}
    return {**ranges, "enable_hnsw": False}
