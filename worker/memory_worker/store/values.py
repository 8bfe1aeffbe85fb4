"""Converts payloads and vectors between Python and the messages of protobuf."""

from __future__ import annotations

from typing import Any

from qdrant_client.grpc import DenseVector, ListValue, RetrievedPoint, ScoredPoint, Struct, Value

_FLOAT_BYTES = 4


def put_payload(fields: Any, payload: dict[str, Any]) -> None:
    """Write ``payload`` into a protobuf map of values."""
    for name, value in payload.items():
        if type(value) is str:
            fields[name].string_value = value
        else:
            _put(fields[name], value)


def payload_of(fields: Any) -> dict[str, Any]:
    """Return a protobuf map of values as a dictionary."""
    # Most values are texts and numbers, and most of these are neither empty nor 0.
    return {name: (value := fields[name]).string_value or value.integer_value or _get(value) for name in fields}


def vector_of(point: RetrievedPoint | ScoredPoint) -> bytes | None:
    """Return the vector of a point as float32 little-endian bytes, or ``None`` if it was not asked for."""
    if not point.HasField("vectors"):
        return None
    output = point.vectors.vector
    dense = output.dense if output.WhichOneof("vector") == "dense" else DenseVector(data=output.data)
    dense.DiscardUnknownFields()  # they would come last
    serialized = dense.SerializeToString()  # ends with the numbers, in the form that we return
    return serialized[len(serialized) - _FLOAT_BYTES * len(dense.data) :]


def _put(target: Value, value: Any) -> None:
    match value:
        case bool():
            target.bool_value = value
        case int():
            target.integer_value = value
        case str():
            target.string_value = value
        case float():
            target.double_value = value
        case None:
            target.null_value = 0  # type: ignore[assignment]  # the only null value
        case dict():
            target.struct_value.SetInParent()
            put_payload(target.struct_value.fields, value)
        case _:
            target.list_value.SetInParent()
            for child in value:
                _put(target.list_value.values.add(), child)


def _get(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    match kind:
        case None | "null_value":
            return None
        case "struct_value":
            fields: Struct = value.struct_value
            return payload_of(fields.fields)
        case "list_value":
            values: ListValue = value.list_value
            return [_get(child) for child in values.values]
    return getattr(value, kind)
