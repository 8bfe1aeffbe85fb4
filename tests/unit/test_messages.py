from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as q

from memory_worker.contract import Condition, Search, Upsert
from memory_worker.contract.kinds import KINDS, MEMORY, primary_id
from memory_worker.store import messages
from memory_worker.store.operations import DeleteMatching, DeletePoints, Operation, UpsertPoints
from memory_worker.store.values import payload_of

VECTOR = struct.pack("<2f", 0.1, -2)


def upsert(point_id: str, vector: bytes = VECTOR, **payload: Any) -> Upsert:
    return Upsert(user_id=1, point_id=point_id, vector=vector, payload=payload)


def sent(*operations: Operation, **options: bool) -> q.UpdateBatchPoints:
    """Return the request as Qdrant decodes it."""
    return decoded(messages.update_batch("things", operations, **options))


def decoded(request: messages.WriteRequest) -> q.UpdateBatchPoints:
    message = q.UpdateBatchPoints.FromString(request.body)
    assert (request.collection, request.operations) == (message.collection_name, len(message.operations))
    return message


def conditions(found: Any) -> list[tuple[str, Any]]:
    """Return conditions as pairs: field and value, or ``has_id`` and ids."""
    return [condition(one) for one in found]


def condition(found: q.Condition) -> tuple[str, Any]:
    if found.HasField("has_id"):
        return "has_id", [point.uuid for point in found.has_id.has_id]
    match = found.field.match
    value = getattr(match, match.WhichOneof("match_value"))
    return found.field.key, list(value.strings) if isinstance(value, q.RepeatedStrings) else value


def packed(vector: q.DenseVector) -> bytes:
    return array("f", vector.data).tobytes()


def ids(*point_ids: str) -> tuple[str, list[str]]:
    return "has_id", [primary_id(point_id) for point_id in point_ids]


ALL: tuple[Operation, ...] = (
    DeleteMatching(7),
    DeletePoints(("mem_1_1",)),
    UpsertPoints((upsert("mem_1_2"),)),
)


@pytest.mark.parametrize(
    "request_of",
    [lambda: sent(*ALL), sent, lambda: decoded(messages.probe("things", 2))],
    ids=["batch", "empty", "probe"],
)
def test_every_write_waits_and_is_strongly_ordered(request_of: Any) -> None:
    request = request_of()
    assert request.collection_name == "things"
    assert request.HasField("wait")
    assert request.wait is True
    assert request.ordering.type == q.WriteOrderingType.Strong


def test_operations_keep_their_order() -> None:
    names = [operation.WhichOneof("operation") for operation in sent(*ALL).operations]
    assert names == ["delete_points", "delete_points", "delete_points", "upsert"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((), [("user_id", 7)]),
        ((Condition("category", "work"),), [("user_id", 7), ("category", "work")]),
        ((Condition("group_key", "g"), Condition("file_id", 9)), [("user_id", 7), ("group_key", "g"), ("file_id", 9)]),
    ],
    ids=["all", "category", "file"],
)
def test_a_purge_always_names_its_user(where: Any, expected: Any) -> None:
    (operation,) = sent(DeleteMatching(7, where)).operations
    found = operation.delete_points.points.filter
    assert conditions(found.must) == expected
    assert not found.should
    assert not found.must_not


def test_a_delete_reaches_points_under_either_id() -> None:
    (operation,) = sent(DeletePoints(("mem_1_1", "mem_1_2"))).operations
    found = operation.delete_points.points.filter
    assert conditions(found.should) == [ids("mem_1_1", "mem_1_2"), ("_point_id", ["mem_1_1", "mem_1_2"])]
    assert not found.must
    assert not found.must_not


def test_an_upsert_first_removes_older_points_of_the_same_id() -> None:
    older, operation = sent(UpsertPoints((upsert("mem_1_1"), upsert("mem_1_2")))).operations
    found = older.delete_points.points.filter
    assert conditions(found.must) == [("_point_id", ["mem_1_1", "mem_1_2"])]
    assert conditions(found.must_not) == [ids("mem_1_1", "mem_1_2")]
    assert not found.should
    assert [point.id.uuid for point in operation.upsert.points] == [primary_id("mem_1_1"), primary_id("mem_1_2")]


def test_an_upsert_removes_nothing_where_no_point_has_an_integer_id() -> None:
    request = sent(*ALL, integer_ids=False)
    names = [operation.WhichOneof("operation") for operation in request.operations]
    assert names == ["delete_points", "delete_points", "upsert"]
    by_either_id = request.operations[1].delete_points.points.filter
    assert conditions(by_either_id.should) == [ids("mem_1_1"), ("_point_id", ["mem_1_1"])]


def test_an_upsert_carries_payload_and_vector() -> None:
    _, operation = sent(UpsertPoints((upsert("mem_1_1", category="work", tags=["a"]), upsert("mem_1_2")))).operations
    first, second = operation.upsert.points
    assert payload_of(first.payload) == {"category": "work", "tags": ["a"]}
    assert payload_of(second.payload) == {}
    assert packed(first.vectors.vector.dense) == packed(second.vectors.vector.dense) == VECTOR


def test_an_upsert_sets_the_tenant_if_the_collection_has_tenants() -> None:
    points = UpsertPoints((upsert("mem_1_1"), upsert("mem_1_2", _tenant="2"), upsert("mem_1_3", _tenant={"a": []})))
    operation = sent(points, tenants=True).operations[1]
    assert [payload_of(point.payload) for point in operation.upsert.points] == [{"_tenant": "1"}] * 3
    operation = sent(points).operations[1]
    assert [payload_of(point.payload).get("_tenant") for point in operation.upsert.points] == [None, "2", {"a": []}]
    assert (
        payload_of(decoded(messages.probe("things", 2, tenants=True)).operations[3].upsert.points[0].payload)["_tenant"]
        == "0"
    )


def test_a_search_is_rescored_if_the_collection_is_quantized() -> None:
    job = Search(user_id=1, vector=VECTOR)
    assert not messages.search("things", KINDS[job.kind], job).HasField("params")
    found = messages.search("things", KINDS[job.kind], job, rescored=True).params.quantization
    assert (found.rescore, found.oversampling, found.ignore) == (True, 2.0, False)


# Lengths whose byte counts need varints of one to four bytes, and lengths next to a step.
@pytest.mark.parametrize("dimension", [0, 1, 31, 32, 33, 384, 1024, 1536, 4095, 4096, 65_536, 524_287, 524_288])
def test_vectors_of_any_length_arrive_bit_identical(dimension: int) -> None:
    vector = struct.pack(f"<{dimension}f", *(1 / (n + 3) for n in range(dimension)))
    _, operation = sent(UpsertPoints((upsert("mem_1_1", vector),))).operations
    dense = operation.upsert.points[0].vectors.vector.dense
    assert len(dense.data) == dimension
    assert packed(dense) == vector


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70))
def test_vectors_of_any_numbers_arrive_bit_identical(numbers: list[float]) -> None:
    vector = struct.pack(f"<{len(numbers)}f", *numbers)
    request = messages.search("things", MEMORY, Search(user_id=1, vector=vector))
    assert packed(q.QueryPoints.FromString(request.SerializeToString()).query.nearest.dense) == vector


@pytest.mark.parametrize("vector", [[0.1, 0.2], bytearray(VECTOR)], ids=["list", "bytearray"])
def test_a_vector_that_is_not_packed_is_a_type_error(vector: Any) -> None:
    with pytest.raises(TypeError, match="packed"):
        messages.update_batch("things", [UpsertPoints((upsert("mem_1_1", vector),))])


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Search(user_id=7, vector=VECTOR), [("user_id", 7), ("active", True)]),
        (Search(user_id=7, vector=VECTOR, category="work"), [("user_id", 7), ("category", "work"), ("active", True)]),
        (Search(user_id=7, vector=VECTOR, category=""), [("user_id", 7), ("category", ""), ("active", True)]),
        (Search(user_id=7, vector=VECTOR, kind="document"), [("user_id", 7)]),
        (
            Search(user_id=7, vector=VECTOR, kind="document", group_key="g", file_id=0),
            [("user_id", 7), ("group_key", "g"), ("file_id", 0)],
        ),
    ],
    ids=["memories", "category", "empty category", "documents", "file"],
)
def test_a_search_always_names_its_user(job: Search, expected: Any) -> None:
    found = messages.search("things", KINDS[job.kind], job).filter
    assert conditions(found.must) == expected
    assert not found.should
    assert not found.must_not


@pytest.mark.parametrize(
    ("job", "limit", "min_score"),
    [
        (Search(user_id=1, vector=VECTOR), 5, 0.7),
        (Search(user_id=1, vector=VECTOR, kind="document"), 10, 0.3),
        (Search(user_id=1, vector=VECTOR, limit=1, min_score=-1), 1, -1.0),
        (Search(user_id=1, vector=VECTOR, min_score=0.0), 5, 0.0),
    ],
    ids=["memories", "documents", "own", "zero"],
)
def test_a_search_has_limit_and_score(job: Search, limit: int, min_score: float) -> None:
    request = messages.search("things", KINDS[job.kind], job)
    assert request.collection_name == "things"
    assert (request.limit, request.score_threshold) == (limit, pytest.approx(min_score))
    assert request.HasField("score_threshold")
    assert request.with_payload.enable is True
    assert not request.with_vectors.enable


def test_a_read_by_ids_names_its_user_and_may_find_two_points_for_each() -> None:
    request = messages.points_by_id("things", 7, ["mem_7_1", "mem_7_2"])
    assert request.collection_name == "things"
    assert conditions(request.filter.must) == [("user_id", 7), ("_point_id", ["mem_7_1", "mem_7_2"])]
    assert request.limit == 4
    assert request.with_payload.enable is True


def test_a_probe_tries_every_operation_for_no_user_and_deletes_its_point() -> None:
    operations = decoded(messages.probe("things", 3)).operations
    assert [operation.WhichOneof("operation") for operation in operations] == [
        "delete_points",  # of a user, as a purge
        "delete_points",  # of a point
        "delete_points",  # of its older forms
        "upsert",
        "delete_points",
    ]
    assert conditions(operations[0].delete_points.points.filter.must) == [("user_id", 0)]
    (point,) = operations[3].upsert.points
    assert list(point.vectors.vector.dense.data) == [1.0, 1.0, 1.0]
    assert point.payload["user_id"].integer_value == 0
    by_id, by_logical_id = operations[4].delete_points.points.filter.should
    assert list(by_id.has_id.has_id) == [point.id]
    assert list(by_logical_id.field.match.keywords.strings) == [point.payload["_point_id"].string_value]
