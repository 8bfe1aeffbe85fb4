"""Points are serialized as the protobuf library does it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as q

from memory_worker.store.point_bytes import append_point, sized, varint
from memory_worker.store.values import put_payload
from tests.unit.test_values import payloads

UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def by_library(payload: dict[str, Any], vector: bytes) -> q.PointStruct:
    point = q.PointStruct()
    point.id.uuid = UUID
    put_payload(point.payload, payload)
    point.vectors.vector.dense.data.extend(struct.unpack(f"<{len(vector) // 4}f", vector))
    return point


def decoded(*points: tuple[dict[str, Any], bytes]) -> q.PointsUpdateOperation.PointStructList:
    parts: list[bytes] = []
    for payload, vector in points:
        append_point(parts, UUID, payload, vector)
    return q.PointsUpdateOperation.PointStructList.FromString(b"".join(parts))


@given(st.lists(st.tuples(payloads, st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))))
def test_points_are_as_those_of_the_library(points: list[tuple[dict[str, Any], list[float]]]) -> None:
    packed = [(payload, struct.pack(f"<{len(vector)}f", *vector)) for payload, vector in points]
    assert list(decoded(*packed).points) == [by_library(payload, vector) for payload, vector in packed]


@pytest.mark.parametrize("size", [0, 1, 123, 124, 125, 126, 127, 128, 129, 16_383, 16_384, 300_000])
def test_names_and_text_of_any_length(size: int) -> None:
    vector = struct.pack("<f", 0.5)
    for payload in ({"name": "x" * size}, {"x" * size: "text"}, {"x" * size: 1}, {"list": ["\u00e9" * size]}):
        assert list(decoded((payload, vector)).points) == [by_library(payload, vector)]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, 2**63, 2**64 - 1])
def test_a_varint_is_that_of_the_library(number: int) -> None:
    assert q.PointId(num=number).SerializeToString()[1:] == (varint(number) if number else b"\x00")


def test_content_comes_after_its_length() -> None:
    assert sized(b"x" * 200) == b"\xc8\x01" + b"x" * 200
