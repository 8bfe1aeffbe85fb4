from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as q

from memory_worker.contract.vectors import pack_vector
from memory_worker.store.values import payload_of, put_payload, vector_of

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
payloads = st.dictionaries(
    st.text(), st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))
)


def sent(payload: dict[str, Any]) -> Any:
    """Return the fields of the payload as Qdrant decodes them."""
    point = q.PointStruct()
    put_payload(point.payload, payload)
    return q.PointStruct.FromString(point.SerializeToString()).payload


def typed(value: Any) -> Any:
    """Return the value with its types, so that 1, 1.0 and True differ."""
    match value:
        case dict():
            return {name: typed(child) for name, child in value.items()}
        case list():
            return [typed(child) for child in value]
    return type(value), value


@given(payloads)
def test_a_payload_survives_the_wire_with_its_types(payload: dict[str, Any]) -> None:
    assert typed(payload_of(sent(payload))) == typed(payload)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null_value"),
        (True, "bool_value"),
        (False, "bool_value"),
        (0, "integer_value"),
        (1, "integer_value"),
        (0.0, "double_value"),
        ("", "string_value"),
        ([], "list_value"),
        ((), "list_value"),
        ({}, "struct_value"),
    ],
    ids=repr,
)
def test_empty_and_small_values_have_the_right_type(value: Any, kind: str) -> None:
    assert sent({"a": value})["a"].WhichOneof("kind") == kind


def test_a_tuple_becomes_a_list() -> None:
    assert payload_of(sent({"a": (1, ("x",))})) == {"a": [1, ["x"]]}


def test_a_value_that_is_not_set_is_null() -> None:
    assert payload_of({"a": q.Value()}) == {"a": None}


@pytest.mark.parametrize("numbers", [[0.5, -1.25, 3e38], [0.0], [0.1] * 300], ids=len)
def test_a_vector_is_returned_as_float32_in_each_form_of_an_answer(numbers: list[float]) -> None:
    dense = q.VectorOutput(dense=q.DenseVector(data=numbers))
    older = q.VectorOutput(data=numbers)  # as older servers answer
    newer = q.VectorOutput.FromString(dense.SerializeToString())
    newer.dense.MergeFromString(b"\x50\x07")  # a field that is not known yet
    for output in (dense, older, newer):
        point = q.RetrievedPoint(vectors=q.VectorsOutput(vector=output))
        assert vector_of(point) == pack_vector(numbers)


def test_a_point_without_a_vector_has_none() -> None:
    assert vector_of(q.RetrievedPoint()) is None
    assert vector_of(q.RetrievedPoint(vectors=q.VectorsOutput(vector=q.VectorOutput()))) == b""
