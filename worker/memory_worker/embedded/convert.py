"""Converts ids, vectors, payloads and selectors between Qdrant's protobuf messages and Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded.refusals import bad_argument, bad_input, not_served, serve_only, wrong_dimension

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Json = Any  # a payload value: None, bool, int, float, str, or a list or dict of these

_READ_VALUE: dict[str | None, Callable[[q.Value], Json]] = {
    None: lambda _: None,
    "null_value": lambda _: None,
    "double_value": lambda value: value.double_value,
    "integer_value": lambda value: value.integer_value,
    "string_value": lambda value: value.string_value,
    "bool_value": lambda value: value.bool_value,
    "struct_value": lambda value: payload_from_proto(value.struct_value.fields),
    "list_value": lambda value: [_value_from_proto(item) for item in value.list_value.values],
}
_INT64 = range(-(2**63), 2**63)


def _value_from_proto(value: q.Value) -> Json:
    return _READ_VALUE[value.WhichOneof("kind")](value)


def payload_from_proto(fields: Mapping[str, q.Value]) -> dict[str, Json]:
    """Return a payload as plain Python values."""
    read = _READ_VALUE
    return {key: read[value.WhichOneof("kind")](value) for key, value in fields.items()}


_WRITE_VALUE: dict[type, Callable[[Any], q.Value]] = {
    type(None): lambda _: q.Value(null_value=q.NullValue.NULL_VALUE),
    bool: lambda value: q.Value(bool_value=value),
    int: lambda value: q.Value(integer_value=value) if value in _INT64 else q.Value(double_value=value),
    float: lambda value: q.Value(double_value=value),
    str: lambda value: q.Value(string_value=value),
    list: lambda value: q.Value(list_value=q.ListValue(values=[_value_to_proto(item) for item in value])),
    dict: lambda value: q.Value(struct_value=q.Struct(fields=payload_to_proto(value))),
}


def _value_to_proto(value: Json) -> q.Value:
    return _WRITE_VALUE[type(value)](value)


def payload_to_proto(payload: dict[str, Json] | None) -> dict[str, q.Value]:
    """Return a payload of Edge as the map of a response."""
    return {key: _value_to_proto(value) for key, value in (payload or {}).items()}


def id_from_proto(point_id: q.PointId) -> int | UUID:
    """Return a point id. Refuse one that is neither a number nor a UUID."""
    match point_id.WhichOneof("point_id_options"):
        case "num":
            return point_id.num
        case "uuid":
            try:
                return UUID(point_id.uuid)
            except ValueError:
                raise bad_argument(f"Unable to parse UUID: {point_id.uuid}") from None
        case _:
            raise bad_argument("No ID options provided")


def ids_from_proto(point_ids: Iterable[q.PointId]) -> list[int | UUID | str]:
    """Return point ids, in the same order."""
    return [id_from_proto(point_id) for point_id in point_ids]


def id_to_proto(point_id: int | UUID | str) -> q.PointId:
    """Return a point id of Edge as a message."""
    return q.PointId(num=point_id) if isinstance(point_id, int) else q.PointId(uuid=str(point_id))


def floats_from_proto(data: Iterable[float], dimension: int) -> list[float]:
    """Return a ``repeated float`` field as ``dimension`` float32 numbers. Refuse any other length.

    numpy copies the field in one step. Edge reads a memoryview three times as fast as a numpy array, even though its
    type asks for a list.
    """
    vector = np.asarray(data, dtype=np.float32)
    if len(vector) != dimension:
        raise wrong_dimension(dimension, len(vector))
    return cast("list[float]", vector.data)


def _dense_data(vectors: q.Vectors) -> Iterable[float]:
    if vectors.WhichOneof("vectors_options") != "vector":
        raise not_served("named vectors")
    vector = vectors.vector
    kind = vector.WhichOneof("vector")
    if kind == "dense":
        return vector.dense.data
    if kind or vector.HasField("indices") or vector.HasField("vectors_count"):
        raise not_served("vectors other than one dense vector")
    return vector.data


def points_from_proto(points: Iterable[q.PointStruct], dimension: int) -> list[edge.Point]:
    """Return points for Edge. If one of them does not fit, refuse all, before anything is applied."""
    return [_point_from_proto(point, dimension) for point in points]


def _point_from_proto(point: q.PointStruct, dimension: int) -> edge.Point:
    if not point.HasField("vectors"):
        raise bad_argument("Expected some vectors")
    return edge.Point(
        id_from_proto(point.id),
        floats_from_proto(_dense_data(point.vectors), dimension),
        payload_from_proto(point.payload),
    )


def query_vector(query: q.Query, dimension: int) -> list[float]:
    """Return the dense vector of a nearest-neighbour query."""
    variant = query.WhichOneof("variant")
    if variant is None:
        raise bad_argument("Query variant is missing")
    if variant != "nearest":
        raise not_served(f"queries of type {variant}")
    kind = query.nearest.WhichOneof("variant")
    if kind is None:
        raise bad_argument("VectorInput variant is missing")
    if kind != "dense":
        raise not_served(f"nearest to {kind}")
    return floats_from_proto(query.nearest.dense.data, dimension)


def with_payload(selector: q.WithPayloadSelector) -> bool | edge.PayloadSelector:
    """Return which payload fields an answer has; none if the selector is not set."""
    match selector.WhichOneof("selector_options"):
        case "include":
            return edge.PayloadSelector.Include(list(selector.include.fields))
        case "exclude":
            return edge.PayloadSelector.Exclude(list(selector.exclude.fields))
        case _:
            return selector.enable


def with_vectors(selector: q.WithVectorsSelector) -> bool:
    """Say whether an answer has the vectors."""
    if selector.WhichOneof("selector_options") == "include":
        raise not_served("a choice of vectors by name")
    return selector.enable


def search_params(params: q.SearchParams) -> edge.SearchParams:
    """Return the parameters of a search for Edge."""
    serve_only(params, ("hnsw_ef", "exact", "quantization", "indexed_only"))
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef if params.HasField("hnsw_ef") else None,
        exact=params.exact,
        quantization=_quantization_params(params.quantization) if params.HasField("quantization") else None,
        indexed_only=params.indexed_only,
    )


def _quantization_params(params: q.QuantizationSearchParams) -> edge.QuantizationSearchParams:
    return edge.QuantizationSearchParams(
        ignore=params.ignore,
        rescore=params.rescore if params.HasField("rescore") else None,
        oversampling=params.oversampling if params.HasField("oversampling") else None,
    )


def default_vector_only(name: str) -> None:
    """Refuse any name of a vector, because there is only the unnamed one."""
    if name:
        raise bad_input(f"Not existing vector name error: {name}")


def vectors_to_proto(vector: Any) -> q.VectorsOutput | None:
    """Return the vector of an answer, or ``None`` if it was not asked for."""
    if vector is None:
        return None
    return q.VectorsOutput(vector=q.VectorOutput(dense=q.DenseVector(data=vector)))


def scored_to_proto(point: edge.ScoredPoint) -> q.ScoredPoint:
    """Return one hit of a query."""
    return q.ScoredPoint(
        id=id_to_proto(point.id),
        payload=payload_to_proto(point.payload),
        score=point.score,
        version=point.version,
        vectors=vectors_to_proto(point.vector),
    )


def record_to_proto(record: edge.Record) -> q.RetrievedPoint:
    """Return one retrieved point."""
    return q.RetrievedPoint(
        id=id_to_proto(record.id),
        payload=payload_to_proto(record.payload),
        vectors=vectors_to_proto(record.vector),
        order_value=_order_value_to_proto(record.order_value),
    )


def _order_value_to_proto(value: int | float | None) -> q.OrderValue | None:
    if value is None:
        return None
    return q.OrderValue(int=value) if isinstance(value, int) else q.OrderValue(float=value)
