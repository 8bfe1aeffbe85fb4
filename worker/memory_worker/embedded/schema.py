"""The configuration and the payload indexes of a collection, as Qdrant reports them and for Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded.refusals import bad_argument, not_served, out_of_range, serve_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

MAX_DIMENSION = 65_536

_DISTANCES = {
    q.Distance.Cosine: edge.Distance.Cosine,
    q.Distance.Euclid: edge.Distance.Euclid,
    q.Distance.Dot: edge.Distance.Dot,
    q.Distance.Manhattan: edge.Distance.Manhattan,
}
_SERVED_AT_CREATION = (
    "collection_name",
    "hnsw_config",
    "wal_config",
    "optimizers_config",
    "shard_number",
    "on_disk_payload",
    "timeout",
    "vectors_config",
    "replication_factor",
    "write_consistency_factor",
    "quantization_config",
    "metadata",
)
_SERVED_AT_UPDATE = (
    "collection_name",
    "timeout",
    "optimizers_config",
    "hnsw_config",
    "quantization_config",
    "metadata",
)


def _server_defaults() -> q.CollectionConfig:
    """Return the values that a Qdrant server reports for settings that a creation does not set."""
    return q.CollectionConfig(
        params=q.CollectionParams(
            shard_number=1, replication_factor=1, write_consistency_factor=1, on_disk_payload=True
        ),
        hnsw_config=q.HnswConfigDiff(
            m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=0, on_disk=False
        ),
        optimizer_config=q.OptimizersConfigDiff(
            deleted_threshold=0.2,
            vacuum_min_vector_number=1_000,
            default_segment_number=0,
            indexing_threshold=10_000,
            flush_interval_sec=5,
        ),
        wal_config=q.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0, wal_retain_closed=1),
    )


def config_at_creation(request: q.CreateCollection) -> q.CollectionConfig:
    """Return the full configuration of a new collection. Settings that Edge does not support are refused."""
    serve_only(request, _SERVED_AT_CREATION)
    config = _server_defaults()
    _check_vectors(request.vectors_config)
    config.params.vectors_config.CopyFrom(request.vectors_config)
    for field in ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"):
        if request.HasField(field):
            setattr(config.params, field, getattr(request, field))
    config.hnsw_config.MergeFrom(_checked_hnsw(request.hnsw_config))
    config.optimizer_config.MergeFrom(_checked_optimizers(request.optimizers_config))
    config.wal_config.MergeFrom(request.wal_config)
    if request.HasField("quantization_config"):
        _quantize(config, request.quantization_config)
    for key, value in request.metadata.items():
        config.metadata[key].CopyFrom(value)
    return config


def config_after_update(config: q.CollectionConfig, request: q.UpdateCollection) -> q.CollectionConfig:
    """Return the configuration with the changes of an update.

    They apply when the shard is opened again. If it is optimized then, its indexes are rebuilt.
    """
    serve_only(request, _SERVED_AT_UPDATE)
    updated = q.CollectionConfig()
    updated.CopyFrom(config)
    updated.hnsw_config.MergeFrom(_checked_hnsw(request.hnsw_config))
    updated.optimizer_config.MergeFrom(_checked_optimizers(request.optimizers_config))
    if request.HasField("quantization_config"):
        _quantize(updated, request.quantization_config)
    for key, value in request.metadata.items():
        if value.WhichOneof("kind") == "null_value":
            updated.metadata.pop(key, None)
        else:
            updated.metadata[key].CopyFrom(value)
    return updated


def _check_vectors(vectors: q.VectorsConfig) -> None:
    if vectors.WhichOneof("config") != "params":
        raise not_served("collections without one unnamed dense vector")
    params = vectors.params
    serve_only(params, ("size", "distance", "on_disk", "datatype"))
    if params.datatype not in {q.Datatype.Default, q.Datatype.Float32}:
        raise not_served("vectors of other types than float32")
    if not 1 <= params.size <= MAX_DIMENSION:
        raise out_of_range("vectors_config.size", params.size, f"must be from 1 to {MAX_DIMENSION}")
    if params.distance not in _DISTANCES:
        raise bad_argument("Bad value of distance field!")


def _checked_hnsw(hnsw: q.HnswConfigDiff) -> q.HnswConfigDiff:
    serve_only(hnsw, ("m", "ef_construct", "full_scan_threshold", "max_indexing_threads", "on_disk", "payload_m"))
    return hnsw


def _checked_optimizers(optimizers: q.OptimizersConfigDiff) -> q.OptimizersConfigDiff:
    if (
        optimizers.prevent_unoptimized
    ):  # it would hide points until Edge is optimized, which never happens while it serves
        raise not_served("OptimizersConfigDiff.prevent_unoptimized")
    return optimizers


def _quantize(config: q.CollectionConfig, asked: q.QuantizationConfig | q.QuantizationConfigDiff) -> None:
    """Set the quantization in ``config``. It cannot be disabled, because Edge keeps an existing one."""
    if asked.WhichOneof("quantization") != "scalar":
        raise not_served("quantization other than scalar")
    serve_only(asked.scalar, ("type", "quantile", "always_ram"))
    if asked.scalar.type != q.QuantizationType.Int8:
        raise bad_argument("Unknown quantization type")
    config.quantization_config.scalar.CopyFrom(asked.scalar)


def edge_config(config: q.CollectionConfig) -> edge.EdgeConfig:
    """Return the configuration of a collection for Edge."""
    vectors, hnsw, optimizers = config.params.vectors_config.params, config.hnsw_config, config.optimizer_config
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=vectors.size, distance=_DISTANCES[vectors.distance], on_disk=_value_or_none(vectors, "on_disk")
        ),
        on_disk_payload=config.params.on_disk_payload,
        hnsw_config=edge.HnswIndexConfig(
            m=hnsw.m,
            ef_construct=hnsw.ef_construct,
            full_scan_threshold=hnsw.full_scan_threshold,
            max_indexing_threads=hnsw.max_indexing_threads,
            on_disk=hnsw.on_disk,
            payload_m=_value_or_none(hnsw, "payload_m"),
        ),
        quantization_config=_edge_quantization(config),
        optimizers=edge.EdgeOptimizersConfig(
            deleted_threshold=optimizers.deleted_threshold,
            vacuum_min_vector_number=optimizers.vacuum_min_vector_number,
            default_segment_number=optimizers.default_segment_number,
            max_segment_size=_value_or_none(optimizers, "max_segment_size"),
            indexing_threshold=optimizers.indexing_threshold,
        ),
    )


def _edge_quantization(config: q.CollectionConfig) -> edge.ScalarQuantizationConfig | None:
    if not config.HasField("quantization_config"):
        return None
    scalar = config.quantization_config.scalar
    return edge.ScalarQuantizationConfig(
        edge.ScalarType.Int8,
        quantile=_value_or_none(scalar, "quantile"),
        always_ram=_value_or_none(scalar, "always_ram"),
    )


def _value_or_none(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


_INDEX_TYPES: dict[int, Any] = {
    q.FieldType.FieldTypeKeyword: edge.PayloadSchemaType.Keyword,
    q.FieldType.FieldTypeInteger: edge.PayloadSchemaType.Integer,
    q.FieldType.FieldTypeFloat: edge.PayloadSchemaType.Float,
    q.FieldType.FieldTypeBool: edge.PayloadSchemaType.Bool,
}
_SCHEMA_TYPES = {
    repr(edge.PayloadSchemaType.Keyword): q.PayloadSchemaType.Keyword,
    repr(edge.PayloadSchemaType.Integer): q.PayloadSchemaType.Integer,
    repr(edge.PayloadSchemaType.Float): q.PayloadSchemaType.Float,
    repr(edge.PayloadSchemaType.Bool): q.PayloadSchemaType.Bool,
}
# By type of index: its field type, the class of Edge, and the options that both have.
_INDEX_PARAMS: dict[str, tuple[int, Callable[..., Any], tuple[str, ...]]] = {
    "keyword_index_params": (
        q.FieldType.FieldTypeKeyword,
        edge.KeywordIndexParams,
        ("is_tenant", "on_disk", "enable_hnsw"),
    ),
    "integer_index_params": (
        q.FieldType.FieldTypeInteger,
        edge.IntegerIndexParams,
        ("lookup", "range", "is_principal", "on_disk", "enable_hnsw"),
    ),
    "float_index_params": (
        q.FieldType.FieldTypeFloat,
        edge.FloatIndexParams,
        ("is_principal", "on_disk", "enable_hnsw"),
    ),
    "bool_index_params": (q.FieldType.FieldTypeBool, edge.BoolIndexParams, ("on_disk", "enable_hnsw")),
}


def index_from_proto(request: q.CreateFieldIndexCollection) -> Any:
    """Return the payload index to create, as a type or parameters of Edge."""
    variant = request.field_index_params.WhichOneof("index_params")
    if variant is not None:
        return _index_params(request, variant)
    if not request.HasField("field_type"):
        raise bad_argument("Bad request: Can't auto-detect field type, please specify `field_schema` in the request")
    if request.field_type not in _INDEX_TYPES:
        raise not_served("payload indexes other than keyword, integer, float and bool")
    return _INDEX_TYPES[request.field_type]


def _index_params(request: q.CreateFieldIndexCollection, variant: str) -> Any:
    if variant not in _INDEX_PARAMS:
        raise not_served("payload indexes other than keyword, integer, float and bool")
    field_type, params_class, options = _INDEX_PARAMS[variant]
    if request.HasField("field_type") and request.field_type != field_type:
        raise bad_argument("field_type and field_index_params do not match")
    params = getattr(request.field_index_params, variant)
    serve_only(params, options)
    return params_class(**{option: _value_or_none(params, option) for option in options})


def schema_to_proto(schema: dict[str, edge.PayloadIndexInfo]) -> dict[str, q.PayloadSchemaInfo]:
    """Return the payload indexes for the description of a collection."""
    return {field: _index_to_proto(info) for field, info in schema.items()}


def _index_to_proto(info: edge.PayloadIndexInfo) -> q.PayloadSchemaInfo:
    schema = q.PayloadSchemaInfo(data_type=_SCHEMA_TYPES[repr(info.data_type)], points=info.points)
    for variant, (_, params_class, options) in _INDEX_PARAMS.items():
        if isinstance(info.params, params_class):  # type: ignore[arg-type]
            params = getattr(schema.params, variant)
            params.SetInParent()
            for option in options:
                if (value := getattr(info.params, option)) is not None:
                    setattr(params, option, value)
    return schema
