"""Scrolls in the order of a payload field, on the embedded engine or on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    ALL_VECTORS,
    Handle,
    by_ids,
    delete,
    field,
    has_id,
    numbers,
    pid,
    plain,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


@pytest.fixture
def ordered(handle: Handle) -> Handle:
    handle.index("created", field_type=q.FieldType.FieldTypeInteger)
    handle.index("weight", field_type=q.FieldType.FieldTypeFloat)
    handle.update(
        upsert(
            point(1, [0, 2, 0, 0], created=30, weight=0.5, user_id=1),
            point(2, created=10, weight=-1.5, user_id=1),
            point(3, created=20, weight=2, user_id=2),
            point(4, created=-7, user_id=2),
            point(5, created=None, user_id=1),
            point(6, user_id=1),
        )
    )
    return handle


def page(handle: Handle, key: str, **options: Any) -> q.ScrollResponse:
    order = {name: options.pop(name) for name in ("direction", "start_from") if name in options}
    request = q.ScrollPoints(collection_name=handle.name, order_by=q.OrderBy(key=key, **order), **options)
    return handle.stub.Scroll(request, timeout=30)


def order(handle: Handle, key: str = "created", **options: Any) -> list[int]:
    return [found.id.num for found in page(handle, key, **options).result]


class TestOrder:
    def test_points_are_sorted_by_the_field(self, ordered: Handle) -> None:
        """Points without a value are left out."""
        assert order(ordered) == [4, 2, 3, 1]
        assert order(ordered, direction=q.Direction.Asc) == [4, 2, 3, 1]
        assert order(ordered, direction=q.Direction.Desc) == [1, 3, 2, 4]
        assert order(ordered, "weight") == [2, 1, 3]

    def test_a_limit_ends_the_page_and_there_is_no_next_one(self, ordered: Handle) -> None:
        response = page(ordered, "created", limit=2, direction=q.Direction.Desc)
        assert [found.id.num for found in response.result] == [1, 3]
        assert not response.HasField("next_page_offset")
        ordered.update(upsert(*(point(n, created=n) for n in range(100, 120))))
        assert order(ordered, direction=q.Direction.Desc) == list(range(119, 109, -1))

    def test_points_contain_the_value_of_the_order(self, ordered: Handle) -> None:
        integers = [found.order_value for found in page(ordered, "created").result]
        assert [value.WhichOneof("variant") for value in integers] == ["int"] * 4
        assert [value.int for value in integers] == [-7, 10, 20, 30]
        floats = [found.order_value for found in page(ordered, "weight").result]
        assert [value.WhichOneof("variant") for value in floats] == ["float"] * 3
        assert [value.float for value in floats] == [-1.5, 0.5, 2]
        unordered = ordered.stub.Scroll(q.ScrollPoints(collection_name=ordered.name, limit=1)).result[0]
        assert not unordered.HasField("order_value")
        assert not ordered.get(1)[1].HasField("order_value")

    @pytest.mark.parametrize(
        ("start", "direction", "expected"),
        [
            (q.StartFrom(integer=20), q.Direction.Asc, [3, 1]),
            (q.StartFrom(integer=20), q.Direction.Desc, [3, 2, 4]),
            (q.StartFrom(float=10.5), q.Direction.Asc, [3, 1]),
            (q.StartFrom(float=20), q.Direction.Desc, [3, 2, 4]),
            (q.StartFrom(integer=0), q.Direction.Asc, [2, 3, 1]),
            (q.StartFrom(integer=31), q.Direction.Asc, []),
            (q.StartFrom(), q.Direction.Asc, [4, 2, 3, 1]),
        ],
    )
    def test_a_page_can_start_from_a_value(
        self, ordered: Handle, start: q.StartFrom, direction: q.Direction.ValueType, expected: list[int]
    ) -> None:
        assert order(ordered, start_from=start, direction=direction) == expected
        everything = q.Filter(must_not=[has_id(99)])
        assert order(ordered, start_from=start, direction=direction, filter=everything) == expected

    def test_a_float_field_can_start_from_a_value(self, ordered: Handle) -> None:
        assert order(ordered, "weight", start_from=q.StartFrom(float=0.5)) == [1, 3]
        assert order(ordered, "weight", start_from=q.StartFrom(integer=0)) == [1, 3]

    def test_a_filter_selects_the_points(self, ordered: Handle) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)])
        assert order(ordered, filter=mine) == [2, 1]
        assert order(ordered, filter=mine, direction=q.Direction.Desc, limit=1) == [1]
        assert order(ordered, filter=q.Filter(must_not=[has_id(3, 4)])) == [2, 1]
        assert order(ordered, filter=q.Filter(must=[field("user_id", integer=9)])) == []

    def test_pages_follow_by_the_last_value_and_a_filter(self, handle: Handle) -> None:
        handle.index("created", field_type=q.FieldType.FieldTypeInteger)
        handle.update(upsert(*(point(n, created=n // 3) for n in range(10))))
        seen: list[int] = []
        start = None
        while True:
            rest = q.Filter(must_not=[has_id(*seen)])
            result = page(handle, "created", start_from=start, filter=rest, limit=4).result
            if not result:
                break
            seen += [found.id.num for found in result]
            start = q.StartFrom(integer=result[-1].order_value.int)
        assert len(seen) == len(set(seen)) == 10
        assert [number // 3 for number in seen] == sorted(number // 3 for number in range(10))

    def test_a_point_appears_once_per_value(self, handle: Handle) -> None:
        handle.index("created", field_type=q.FieldType.FieldTypeInteger)
        handle.update(upsert(point(1, created=[1, 3]), point(2, created=2)))
        result = page(handle, "created").result
        assert [(found.id.num, found.order_value.int) for found in result] == [(1, 1), (2, 2), (1, 3)]

    def test_changes_are_sorted(self, ordered: Handle) -> None:
        ordered.update(delete(by_ids(3)), upsert(point(2, created=99), point(6, created=0)))
        assert order(ordered) == [4, 6, 1, 2]

    def test_points_contain_payload_and_vector_as_in_other_scrolls(self, ordered: Handle) -> None:
        last = page(ordered, "created", direction=q.Direction.Desc, limit=1, with_vectors=ALL_VECTORS).result[0]
        assert plain(last.payload["created"]) == 30
        assert numbers(last.vectors) == pytest.approx([0, 1, 0, 0])
        bare = page(ordered, "created", limit=1, with_payload=q.WithPayloadSelector(enable=False)).result[0]
        assert dict(bare.payload) == {}
        assert not bare.HasField("vectors")

    def test_an_offset_is_refused(self, ordered: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, page, ordered, "created", offset=pid(2))
        assert error.details().startswith("Wrong input: Cannot use an `offset` when using `order_by`. The alternative")

    def test_a_field_without_an_index_for_ranges_is_refused(
        self, ordered: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        lookup = q.IntegerIndexParams(lookup=True, range=False)
        ordered.index(
            "single", q.PayloadIndexParams(integer_index_params=lookup), field_type=q.FieldType.FieldTypeInteger
        )
        for key in ("none", "single", "category"):
            error = refusal(grpc.StatusCode.INVALID_ARGUMENT, page, ordered, key)
            assert error.details().startswith(f"Wrong input: No range index for `order_by` key: `{key}`.")

    def test_malformed_requests_are_refused(self, ordered: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, page, ordered, "a[")
        assert error.details() == "Invalid json path: 'a['"
        refusal(grpc.StatusCode.INVALID_ARGUMENT, page, ordered, "created", limit=0)
        unknown = Handle(ordered.stub, f"{ordered.name}-none")
        refusal(grpc.StatusCode.NOT_FOUND, page, unknown, "created")
