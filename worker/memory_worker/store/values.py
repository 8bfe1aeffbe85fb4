"""Converts payloads and vectors between Python and the messages of protobuf."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client.grpc import ListValue, RetrievedPoint, Struct, Value


def put_payload(fields: Any, payload: dict[str, Any]) -> None:
    """Write ``payload`` into a protobuf map of values."""
    for name, value in payload.items():
        if type(value) is str:
            fields[name].string_value = value
        else:
            _put(fields[name], value)


def payload_of(fields: Any) -> dict[str, Any]:
    """Return a protobuf map of values as a dictionary."""
    return {name: _get(value) for name, value in fields.items()}


def vector_of(point: RetrievedPoint) -> bytes | None:
    """Return the vector of a point as float32 little-endian bytes, or ``None`` if it was not asked for."""
    if not point.HasField("vectors"):
        return None
    output = point.vectors.vector
    numbers = output.dense.data if output.WhichOneof("vector") == "dense" else output.data
    return np.asarray(numbers, dtype="<f4").tobytes()


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
