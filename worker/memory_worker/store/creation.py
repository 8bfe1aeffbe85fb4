"""The requests that create collections and their payload indexes.

Graphs per user: with ``m = 0`` Qdrant builds no graph over all points. With ``payload_m`` it builds a graph for each
frequent value of each indexed field. An integer index is enough, so each frequent ``user_id`` gets a graph, which also
holds the points that the app wrote itself. But other fields would get graphs too (``active: true`` one over nearly all
points), and so would ranges of users. That is more work than one graph over all points. So in such a collection the
indexes are created with options that leave only the graphs of single users.

Tenant index: Qdrant stores the points of a user side by side whenever it rebuilds a segment. Keywords have the option
``is_tenant`` for it, and integers ``is_principal``, which does the same. In strict mode, a search without a graph over
all points must filter by such a field.
"""

from __future__ import annotations

from typing import Any

from qdrant_client import grpc as q

from memory_worker.contract.fields import NARROWING
from memory_worker.contract.kinds import MODEL_FIELD, RANGE_FIELDS, USER_ID_FIELD, IndexType, KindName
from memory_worker.store.compatibility import DISTANCES
from memory_worker.store.index_settings import IndexSettings
from memory_worker.store.shape import CollectionShape

TENANT_OPTIONS: dict[IndexType, str] = {"keyword": "is_tenant", "integer": "is_principal"}
"""The option of an index that stores the points of each value side by side, by type of index."""

_INDEX_TYPES: dict[IndexType, q.FieldType.ValueType] = {
    "integer": q.FieldType.FieldTypeInteger,
    "keyword": q.FieldType.FieldTypeKeyword,
    "bool": q.FieldType.FieldTypeBool,
}
INDEX_PARAMS: dict[IndexType, str] = {
    "integer": "integer_index_params",
    "keyword": "keyword_index_params",
    "bool": "bool_index_params",
}
"""The field of `PayloadIndexParams` with the options of an index, by type of index."""

INT8 = q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=0.99, always_ram=True)


def creation_of(name: str, kind: KindName, shape: CollectionShape, settings: IndexSettings) -> q.CreateCollection:
    """Return the request that creates a collection of a kind."""
    vectors = q.VectorParams(
        size=shape.dimension_of(kind), distance=DISTANCES[shape.kinds[kind].distance], on_disk=shape.on_disk
    )
    request = q.CreateCollection(
        collection_name=name,
        vectors_config=q.VectorsConfig(params=vectors),
        hnsw_config=q.HnswConfigDiff(
            m=settings.m,
            payload_m=settings.payload_m,
            ef_construct=shape.hnsw_ef_construct,
            full_scan_threshold=settings.full_scan_threshold_kb,
            on_disk=shape.on_disk,
        ),
        optimizers_config=q.OptimizersConfigDiff(indexing_threshold=settings.indexing_threshold_kb),
        shard_number=shape.shard_number,
        replication_factor=shape.replication_factor,
        write_consistency_factor=shape.write_consistency_factor,
    )
    if shape.quantize_int8:
        request.quantization_config.scalar.CopyFrom(INT8)
    return request


def index_of(
    name: str, field: str, index: IndexType, *, user_graphs: bool, tenant: bool
) -> q.CreateFieldIndexCollection:
    """Return the request that indexes a payload field of a collection. See `index_options`."""
    request = q.CreateFieldIndexCollection(
        collection_name=name, wait=True, field_name=field, field_type=_INDEX_TYPES[index]
    )
    options = index_options(field, index, user_graphs=user_graphs, tenant=tenant)
    if options:
        params = getattr(request.field_index_params, INDEX_PARAMS[index])
        for option, value in options.items():
            setattr(params, option, value)
    return request


def has_user_graphs(config: q.CollectionConfig) -> bool:
    """Say whether a collection has graphs of single users, and none over all points."""
    return config.hnsw_config.m == 0 and config.hnsw_config.payload_m > 0


def index_options(field: str, index: IndexType, *, user_graphs: bool, tenant: bool) -> dict[str, Any]:
    """Return the options of an index, besides its type.

    ``user_graphs`` says that only users get graphs, and ``tenant`` that the points of a user are stored side by side.
    Numbers that no search filters by get no graphs, in any collection.
    """
    if field == USER_ID_FIELD:
        option = {TENANT_OPTIONS[index]: True} if tenant else {}
        only_values = {"lookup": True, "range": False} if index == "integer" and (tenant or user_graphs) else {}
        return only_values | option
    if not user_graphs and (index != "integer" or field in NARROWING):
        return {}
    if index != "integer":
        return {"enable_hnsw": False}
    return {"lookup": field not in RANGE_FIELDS, "range": field != MODEL_FIELD, "enable_hnsw": False}
