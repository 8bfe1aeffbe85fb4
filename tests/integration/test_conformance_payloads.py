"""Changes of payloads, by ids and by filters, on the embedded engine or on a server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    Handle,
    Operation,
    by_filter,
    by_ids,
    field,
    has_id,
    integers,
    keywords,
    numbers,
    point,
    upsert,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


def values(payload: dict[str, Any]) -> dict[str, q.Value]:
    return {key: value(item) for key, item in payload.items()}


def set_payload(selector: q.PointsSelector, **payload: Any) -> q.PointsUpdateOperation:
    return Operation(set_payload=Operation.SetPayload(payload=values(payload), points_selector=selector))


def overwrite(selector: q.PointsSelector, **payload: Any) -> q.PointsUpdateOperation:
    return Operation(overwrite_payload=Operation.OverwritePayload(payload=values(payload), points_selector=selector))


def delete_keys(selector: q.PointsSelector, *keys: str) -> q.PointsUpdateOperation:
    return Operation(delete_payload=Operation.DeletePayload(keys=keys, points_selector=selector))


def clear(selector: q.PointsSelector) -> q.PointsUpdateOperation:
    return Operation(clear_payload=Operation.ClearPayload(points=selector))


def filtered(*must: q.Condition, **others: Any) -> q.Condition:
    return q.Condition(filter=q.Filter(must=must, **others))


def empty(key: str) -> q.Condition:
    return q.Condition(is_empty=q.IsEmptyCondition(key=key))


MINE = field("user_id", integer=1)


@pytest.fixture
def stored(handle: Handle) -> Handle:
    handle.update(
        upsert(
            point(1, [0, 2, 0, 0], user_id=1, version=1, category="a", active=True),
            point(2, user_id=1, version=2, category="b", active=False),
            point(3, user_id=1, category="c"),
            point(4, user_id=1, version=None, tags=[]),
            point(5, user_id=2, version=1, category="a", active=True),
        )
    )
    return handle


class TestSelectedPoints:
    CASES: tuple[tuple[str, q.PointsSelector, set[int]], ...] = (
        ("ids", by_ids(1, 3), {1, 3}),
        ("unknown by filter", by_filter(must=[has_id(2, 99)]), {2}),
        ("everything", by_filter(), {1, 2, 3, 4, 5}),
        (
            "older or without a version",
            by_filter(
                must=[
                    MINE,
                    q.Condition(filter=q.Filter(should=[field("version", range=q.Range(lt=2)), empty("version")])),
                ]
            ),
            {1, 3, 4},
        ),
        (
            "should beside must",
            by_filter(must=[MINE], should=[field("version", range=q.Range(lt=2)), empty("version")]),
            {1, 3, 4},
        ),
        ("must not", by_filter(must=[MINE], must_not=[field("category", keyword="a"), has_id(3)]), {2, 4}),
        ("must not be empty", by_filter(must=[MINE], must_not=[empty("version")]), {1, 2}),
        ("except keywords", by_filter(must=[MINE, field("category", except_keywords=keywords("a", "z"))]), {2, 3}),
        ("except integers", by_filter(must=[field("version", except_integers=integers(2))]), {1, 5}),
        ("any keyword", by_filter(must=[MINE, field("category", keywords=keywords("a", "c"))]), {1, 3}),
        ("any integer", by_filter(must=[field("version", integers=integers(1, 3))]), {1, 5}),
        ("bool", by_filter(must=[MINE, field("active", boolean=False)]), {2}),
        (
            "deeply nested",
            by_filter(
                must=[
                    filtered(MINE, must_not=[filtered(field("category", keyword="a"), field("active", boolean=True))]),
                    filtered(should=[filtered(has_id(2, 3)), filtered(empty("tags"), has_id(1))]),
                ]
            ),
            {2, 3},
        ),
    )
    selections = pytest.mark.parametrize(
        ("selector", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
    )

    @selections
    def test_fields_are_set(self, stored: Handle, selector: q.PointsSelector, expected: set[int]) -> None:
        before = {key: stored.payload(key) for key in range(1, 6)}
        stored.update(set_payload(selector, mark=[1, {"a": None}], category="new"))
        for key, payload in before.items():
            new = {"mark": [1, {"a": None}], "category": "new"} if key in expected else {}
            assert stored.payload(key) == {**payload, **new}
        assert stored.ids(must=[field("category", keyword="new")]) == expected

    @selections
    def test_payloads_are_replaced(self, stored: Handle, selector: q.PointsSelector, expected: set[int]) -> None:
        before = {key: stored.payload(key) for key in range(1, 6)}
        stored.update(overwrite(selector, mark=1))
        for key, payload in before.items():
            assert stored.payload(key) == ({"mark": 1} if key in expected else payload)

    @selections
    def test_fields_are_deleted(self, stored: Handle, selector: q.PointsSelector, expected: set[int]) -> None:
        before = {key: stored.payload(key) for key in range(1, 6)}
        stored.update(delete_keys(selector, "user_id", "version", "never"))
        for key, payload in before.items():
            gone = {"user_id", "version"} if key in expected else set()
            assert stored.payload(key) == {name: item for name, item in payload.items() if name not in gone}

    @selections
    def test_payloads_are_cleared(self, stored: Handle, selector: q.PointsSelector, expected: set[int]) -> None:
        before = {key: stored.payload(key) for key in range(1, 6)}
        stored.update(clear(selector))
        assert {key for key in before if stored.payload(key) == {}} == expected


class TestChanges:
    def test_operations_of_a_batch_see_earlier_ones(self, stored: Handle) -> None:
        stored.update(
            set_payload(by_filter(must=[MINE]), user_id=7),
            set_payload(by_filter(must=[MINE]), wrong=True),
            delete_keys(by_filter(must=[field("user_id", integer=7), empty("version")]), "category"),
            overwrite(by_ids(5), user_id=7),
        )
        assert stored.ids(must=[field("user_id", integer=7)]) == {1, 2, 3, 4, 5}
        assert stored.payload(3) == {"user_id": 7}
        assert stored.payload(1) == {"user_id": 7, "version": 1, "category": "a", "active": True}

    def test_a_null_is_set_as_a_value_or_removes_the_field(self, stored: Handle) -> None:
        stored.update(set_payload(by_ids(1), category=None, added=None))
        assert stored.payload(1) == {"user_id": 1, "version": 1, "active": True}
        stored.update(overwrite(by_ids(2), category=None, kept=1))
        assert stored.payload(2) == {"category": None, "kept": 1}
        assert stored.ids(must=[empty("category")]) == {1, 2, 4}
        stored.update(clear(by_ids(3)), set_payload(by_ids(3), added=None))
        assert stored.payload(3) == {"added": None}  # it is merged with nothing
        stored.update(set_payload(by_ids(3), added=None))
        assert stored.payload(3) == {}

    def test_vectors_are_kept(self, stored: Handle) -> None:
        stored.update(set_payload(by_ids(1), a=1), overwrite(by_ids(1), b=1), clear(by_ids(1)))
        assert numbers(stored.get(1)[1].vectors) == pytest.approx([0, 1, 0, 0])

    def test_a_field_inside_another_is_set_and_deleted(self, stored: Handle) -> None:
        stored.update(overwrite(by_ids(1), deep={"x": {"y": 1, "z": 2}, "w": 3}))
        inside = Operation.SetPayload(payload=values({"y": 5, "v": 6}), points_selector=by_ids(1), key="deep.x")
        stored.update(Operation(set_payload=inside), delete_keys(by_ids(1), "deep.x.z", "deep.w"))
        assert stored.payload(1) == {"deep": {"x": {"y": 5, "v": 6}}}

    def test_fields_of_unknown_ids_are_refused(self, stored: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        unknown = str(uuid.uuid4())
        for operation in (set_payload(by_ids(unknown), a=1), overwrite(by_ids(1, unknown), a=1)):
            error = refusal(grpc.StatusCode.NOT_FOUND, stored.update, operation)
            assert error.details() == f"Not found: No point with id {unknown} found"

    def test_malformed_changes_are_refused(self, stored: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        for operation in (
            Operation(set_payload=Operation.SetPayload(payload=values({"a": 1}))),
            Operation(overwrite_payload=Operation.OverwritePayload()),
            Operation(delete_payload=Operation.DeletePayload(keys=["a"])),
            Operation(clear_payload=Operation.ClearPayload()),
            set_payload(q.PointsSelector(), a=1),
            set_payload(by_ids("no-uuid"), a=1),
            delete_keys(by_ids(1), "a["),
        ):
            refusal(grpc.StatusCode.INVALID_ARGUMENT, stored.update, operation)


class TestSingleCalls:
    def test_each_change_has_a_call(self, stored: Handle) -> None:
        common = {"collection_name": stored.name, "wait": True}
        responses = [
            stored.stub.SetPayload(q.SetPayloadPoints(payload=values({"a": 1}), points_selector=by_ids(1), **common)),
            stored.stub.OverwritePayload(
                q.SetPayloadPoints(payload=values({"a": 2}), points_selector=by_filter(must=[has_id(2)]), **common)
            ),
            stored.stub.DeletePayload(
                q.DeletePayloadPoints(keys=["user_id"], points_selector=by_filter(must=[has_id(3)]), **common)
            ),
            stored.stub.ClearPayload(q.ClearPayloadPoints(points=by_ids(4), **common)),
        ]
        assert [response.result.status for response in responses] == [q.UpdateStatus.Completed] * 4
        assert stored.payload(1) == {"user_id": 1, "version": 1, "category": "a", "active": True, "a": 1}
        assert [stored.payload(key) for key in (2, 3, 4)] == [{"a": 2}, {"category": "c"}, {}]

    def test_a_call_without_wait_is_only_acknowledged(self, stored: Handle) -> None:
        request = q.SetPayloadPoints(collection_name=stored.name, payload=values({"a": 1}), points_selector=by_ids(1))
        assert stored.stub.SetPayload(request).result.status == q.UpdateStatus.Acknowledged

    def test_calls_are_refused_like_operations(
        self, stored: Handle, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        stub = stored.stub
        for call, request_type in (
            (stub.SetPayload, q.SetPayloadPoints),
            (stub.OverwritePayload, q.SetPayloadPoints),
            (stub.DeletePayload, q.DeletePayloadPoints),
            (stub.ClearPayload, q.ClearPayloadPoints),
        ):
            refusal(grpc.StatusCode.INVALID_ARGUMENT, call, request_type(collection_name=stored.name, wait=True))
        unknown = q.ClearPayloadPoints(collection_name=f"{stored.name}-none", points=by_ids(1))
        refusal(grpc.StatusCode.NOT_FOUND, stub.ClearPayload, unknown)
