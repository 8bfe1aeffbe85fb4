"""Upserts, deletes and batches, on the embedded engine or on a server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    Handle,
    Operation,
    by_filter,
    by_ids,
    delete,
    field,
    has_id,
    keywords,
    numbers,
    pid,
    point,
    upsert,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


class TestUpserts:
    def test_an_upsert_stores_id_payload_and_vector(self, handle: Handle) -> None:
        payload = {
            "user_id": 1730,
            "text": "grün 🌱",
            "ratio": 0.5,
            "active": False,
            "nothing": None,
            "many": [1, "two", [3.5]],
            "deep": {"a": {"b": True}},
            "big": 2**53 + 1,
        }
        key = str(uuid.uuid4())
        handle.update(upsert(point(key, [0, 3, 4, 0], **payload), point(2**63)))
        found = handle.get(key, 2**63)
        assert set(found) == {key, 2**63}
        assert handle.payload(key) == payload
        assert numbers(found[key].vectors) == pytest.approx([0, 0.6, 0.8, 0], abs=1e-6)  # cosine normalises

    def test_the_deprecated_vector_field_is_accepted(self, handle: Handle) -> None:
        old = q.PointStruct(id=pid(1), vectors=q.Vectors(vector=q.Vector(data=[0, 0, 2, 0])), payload={"a": value(1)})
        handle.update(upsert(old))
        assert numbers(handle.get(1)[1].vectors) == pytest.approx([0, 0, 1, 0])

    def test_an_upsert_replaces_vector_and_payload(self, handle: Handle) -> None:
        handle.update(upsert(point(1, [1, 0, 0, 0], user_id=1, old=True)))
        handle.update(upsert(point(1, [0, 1, 0, 0], user_id=2)))
        assert handle.payload(1) == {"user_id": 2}
        assert numbers(handle.get(1)[1].vectors) == pytest.approx([0, 1, 0, 0])
        assert handle.count() == 1
        assert handle.count(must=[field("user_id", integer=1)]) == 0

    def test_the_last_upsert_of_an_id_wins(self, handle: Handle) -> None:
        handle.update(upsert(point(1, n=1), point(2, n=2), point(1, n=3)))
        assert handle.payload(1) == {"n": 3}
        assert handle.count() == 2

    def test_there_is_a_separate_call_for_upserts(self, handle: Handle) -> None:
        request = q.UpsertPoints(collection_name=handle.name, wait=True, points=[point(1), point(2)])
        assert handle.stub.Upsert(request).result.status == q.UpdateStatus.Completed
        assert handle.ids() == {1, 2}

    def test_uuids_are_returned_in_lower_case_with_hyphens(self, handle: Handle) -> None:
        key = uuid.uuid4()
        handle.update(upsert(point(key.hex.upper())))
        assert handle.ids() == {str(key)}

    def test_an_update_filter_applies_only_to_existing_points(
        self, handle: Handle, server_version: tuple[int, ...]
    ) -> None:
        if server_version < (1, 16):
            pytest.skip("servers know update_filter since 1.16")
        handle.update(upsert(point(1, user_id=1, n=1), point(2, user_id=2, n=1)))
        guard = q.Filter(must=[field("user_id", integer=1)])
        changed = [point(1, user_id=1, n=2), point(2, user_id=2, n=2), point(3, user_id=2, n=2)]
        handle.update(upsert(*changed, update_filter=guard))
        assert [handle.payload(key)["n"] for key in (1, 2, 3)] == [2, 1, 2]


class TestRefusedUpserts:
    def test_a_wrong_dimension_is_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(1, [1, 2, 3])))
        assert "Vector dimension error: expected dim: 4, got 3" in error.details()
        assert handle.count() == 0

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(point("not-a-uuid"), id="bad uuid"),
            pytest.param(q.PointStruct(vectors=point(1).vectors), id="no id"),
            pytest.param(q.PointStruct(id=pid(1)), id="no vector"),
        ],
    )
    def test_malformed_points_are_refused(
        self, handle: Handle, bad: q.PointStruct, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(5), bad))
        assert handle.count() == 0

    def test_an_unknown_collection_is_refused(
        self, points: q.PointsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        error = refusal(grpc.StatusCode.NOT_FOUND, Handle(points, collection_name).update, upsert(point(1)))
        assert f"Collection `{collection_name}` doesn't exist!" in error.details()


class TestBatches:
    def test_a_batch_returns_a_result_per_operation(self, handle: Handle) -> None:
        response = handle.update(upsert(point(1)), delete(by_ids(1)), upsert(point(2)))
        assert [result.status for result in response.result] == [q.UpdateStatus.Completed] * 3

    def test_a_batch_without_wait_is_only_acknowledged(self, handle: Handle) -> None:
        response = handle.update(upsert(point(1)), wait=False)
        assert [result.status for result in response.result] == [q.UpdateStatus.Acknowledged]

    def test_operations_of_a_batch_are_applied_in_order(self, handle: Handle) -> None:
        handle.update(
            upsert(point(1, user_id=1, n=1), point(2, user_id=1, n=1), point(3, user_id=2, n=1)),
            delete(by_filter(must=[field("user_id", integer=1)])),
            upsert(point(2, user_id=1, n=2)),
        )
        assert handle.ids() == {2, 3}
        assert handle.payload(2)["n"] == 2

    def test_operations_after_a_failed_one_are_not_applied(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        error = refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            handle.update,
            upsert(point(1)),
            upsert(point(2)),
            upsert(point(3, [1, 2])),
            upsert(point(4)),
        )
        assert "expected dim: 4, got 2" in error.details()
        assert handle.ids() == {1, 2}

    def test_operations_before_a_malformed_one_are_applied(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(1)), upsert(point("no")))
        assert handle.ids() == {1}

    def test_a_batch_that_is_replayed_changes_nothing(self, handle: Handle) -> None:
        batch = [
            upsert(point(1, user_id=1, n=1)),
            delete(by_filter(must=[field("n", integer=0)])),
            delete(by_ids(9)),
        ]
        handle.update(*batch)
        once = handle.payload(1), handle.ids()
        handle.update(*batch)
        assert (handle.payload(1), handle.ids()) == once

    def test_set_payload_merges_and_overwrite_replaces(self, handle: Handle) -> None:
        handle.update(
            upsert(point(1, a=1, b=1), point(2, a=1, b=1)),
            Operation(set_payload=Operation.SetPayload(payload={"b": value(2)}, points_selector=by_ids(1))),
            Operation(
                overwrite_payload=Operation.OverwritePayload(
                    payload={"c": value(3)}, points_selector=by_filter(must=[has_id(2)])
                )
            ),
        )
        assert handle.payload(1) == {"a": 1, "b": 2}
        assert handle.payload(2) == {"c": 3}

    def test_keys_of_a_payload_can_be_deleted(self, handle: Handle) -> None:
        removal = Operation.DeletePayload(keys=["a"], points_selector=by_ids(1))
        handle.update(upsert(point(1, a=1, b=1)), Operation(delete_payload=removal))
        assert handle.payload(1) == {"b": 1}

    def test_empty_operations_are_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, Operation())

    def test_operations_on_no_points_are_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        payload = {"a": value(1)}
        for wait in (True, False):
            for operation in (
                upsert(),
                delete(by_ids()),
                Operation(set_payload=Operation.SetPayload(payload=payload, points_selector=by_ids())),
                Operation(overwrite_payload=Operation.OverwritePayload(payload=payload, points_selector=by_ids())),
                Operation(delete_payload=Operation.DeletePayload(keys=["a"], points_selector=by_ids())),
                Operation(clear_payload=Operation.ClearPayload(points=by_ids())),
            ):
                error = refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, operation, wait=wait)
                assert error.details() == "Bad request: Empty update request"


class TestDeletes:
    def test_unknown_ids_are_ignored(self, handle: Handle) -> None:
        handle.update(upsert(point(1), point(2)))
        request = q.DeletePoints(collection_name=handle.name, wait=True, points=by_ids(1, 99))
        assert handle.stub.Delete(request).result.status == q.UpdateStatus.Completed
        assert handle.ids() == {2}

    def test_deletes_by_logical_id_can_exclude_primary_ids(self, handle: Handle) -> None:
        """An overwrite must also reach a point of the same logical id under an older primary id."""
        new = [str(uuid.uuid4()) for _ in range(2)]
        handle.update(
            upsert(point(17, _point_id="mem_1_1"), point(18, _point_id="mem_1_2"), point(19, _point_id="x")),
            upsert(point(new[0], _point_id="mem_1_1"), point(new[1], _point_id="mem_1_2")),
            delete(
                by_filter(
                    must=[field("_point_id", keywords=keywords("mem_1_1", "mem_1_2", "mem_1_3"))],
                    must_not=[has_id(*new)],
                )
            ),
        )
        assert handle.ids() == {*new, 19}

    def test_points_of_a_user_are_deleted(self, handle: Handle) -> None:
        handle.update(upsert(*(point(n, user_id=n % 3) for n in range(9))))
        handle.update(delete(by_filter(must=[field("user_id", integer=1)])))
        assert handle.ids() == {n for n in range(9) if n % 3 != 1}
        assert handle.count(must=[field("user_id", integer=1)]) == 0

    def test_deletes_by_user_can_exclude_points(self, handle: Handle) -> None:
        handle.update(upsert(*(point(n, user_id=1) for n in range(4))))
        handle.update(delete(by_filter(must=[field("user_id", integer=1)], must_not=[has_id(1, 2)])))
        assert handle.ids() == {1, 2}

    def test_a_delete_without_a_selector_is_refused(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        empty = q.DeletePoints(collection_name=handle.name, wait=True)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.stub.Delete, empty)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, delete(q.PointsSelector()))
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, delete(by_ids("no-uuid")))

    def test_a_deleted_point_can_be_written_again(self, handle: Handle) -> None:
        handle.update(upsert(point(1, n=1)), delete(by_ids(1)))
        assert handle.get(1) == {}
        assert handle.query([1, 0, 0, 0], limit=5) == []
        handle.update(upsert(point(1, n=2)))
        assert handle.payload(1) == {"n": 2}
