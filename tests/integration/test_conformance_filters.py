"""Filters, on the embedded engine or on a server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    Handle,
    creation,
    field,
    has_id,
    integers,
    keywords,
    plain_id,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["tests.integration.conformance_fixtures"]


@pytest.fixture(scope="module")
def filterable(qdrant_channel: grpc.Channel) -> Iterator[Handle]:
    handle = Handle(q.PointsStub(qdrant_channel), f"test-{uuid.uuid4().hex[:12]}")
    q.CollectionsStub(qdrant_channel).Create(creation(handle.name))
    handle.update(
        upsert(
            point(1, kw="a", n=1, flag=True, tags=["x", "y"]),
            point(2, kw="b", n=2, flag=False, tags=["y"]),
            point(3, n=3, flag=None, tags=[]),
            point(4, kw="a", n=4, deep={"x": 5}),
        )
    )
    yield handle
    q.CollectionsStub(qdrant_channel).Delete(q.DeleteCollection(collection_name=handle.name))


class TestFilters:
    CASES: tuple[tuple[str, dict[str, list[q.Condition]], set[int]], ...] = (
        ("keyword", {"must": [field("kw", keyword="a")]}, {1, 4}),
        ("integer", {"must": [field("n", integer=2)]}, {2}),
        ("boolean", {"must": [field("flag", boolean=True)]}, {1}),
        ("false is not missing", {"must": [field("flag", boolean=False)]}, {2}),
        ("keywords", {"must": [field("kw", keywords=keywords("a", "b"))]}, {1, 2, 4}),
        ("integers", {"must": [field("n", integers=integers(1, 3))]}, {1, 3}),
        ("an element of a list", {"must": [field("tags", keyword="y")]}, {1, 2}),
        ("except keywords", {"must": [field("kw", except_keywords=keywords("a"))]}, {2}),
        ("except integers", {"must": [field("n", except_integers=integers(1, 2))]}, {3, 4}),
        ("has id", {"must": [has_id(1, 3, 99)]}, {1, 3}),
        ("range", {"must": [field("n", range=q.Range(gt=1, lte=3))]}, {2, 3}),
        ("range from below", {"must": [field("n", range=q.Range(gte=3))]}, {3, 4}),
        ("range to", {"must": [field("n", range=q.Range(lt=2))]}, {1}),
        ("empty", {"must": [q.Condition(is_empty=q.IsEmptyCondition(key="kw"))]}, {3}),
        ("null", {"must": [q.Condition(is_null=q.IsNullCondition(key="flag"))]}, {3}),
        ("field is null", {"must": [field("flag", is_null=True)]}, {3}),
        ("field is not empty", {"must": [field("kw", is_empty=False)]}, {1, 2, 4}),
        ("must not", {"must_not": [field("kw", keyword="a")]}, {2, 3}),
        ("should", {"should": [field("n", integer=1), field("n", integer=2)]}, {1, 2}),
        (
            "all three",
            {
                "must": [field("n", range=q.Range(gte=1))],
                "should": [field("kw", keyword="a"), field("kw", keyword="b")],
                "must_not": [has_id(4)],
            },
            {1, 2},
        ),
        (
            "nested",
            {
                "must": [
                    q.Condition(
                        filter=q.Filter(
                            should=[
                                field("n", integer=3),
                                q.Condition(filter=q.Filter(must=[field("kw", keyword="a")], must_not=[has_id(1)])),
                            ]
                        )
                    )
                ]
            },
            {3, 4},
        ),
        ("no keywords", {"must": [field("kw", keywords=keywords())]}, set()),
        ("except no keywords", {"must": [field("kw", except_keywords=keywords())]}, {1, 2, 4}),
        ("no integers", {"must": [field("n", integers=integers())]}, set()),
        ("except in a list", {"must": [field("tags", except_keywords=keywords("y"))]}, {1}),
        ("not a keyword", {"must_not": [field("kw", keywords=keywords("a", "c"))]}, {2, 3}),
        ("empty list", {"must": [q.Condition(is_empty=q.IsEmptyCondition(key="tags"))]}, {3, 4}),
        ("empty null", {"must": [q.Condition(is_empty=q.IsEmptyCondition(key="flag"))]}, {3, 4}),
        (
            "less or empty",
            {"should": [field("deep.x", range=q.Range(lt=6)), q.Condition(is_empty=q.IsEmptyCondition(key="kw"))]},
            {3, 4},
        ),
        ("range of a float", {"must": [field("n", range=q.Range(gt=1.5, lt=3.5))]}, {2, 3}),
        ("no ids", {"must": [has_id()]}, set()),
        ("not no ids", {"must_not": [has_id()]}, {1, 2, 3, 4}),
        ("an empty filter inside", {"must": [q.Condition(filter=q.Filter()), field("n", integer=1)]}, {1}),
        ("an integer is no bool", {"must": [field("flag", integer=1)]}, set()),
        ("a bool is no integer", {"must": [field("n", boolean=True)]}, set()),
        ("a field inside", {"must": [field("deep.x", integer=5)]}, {4}),
        ("none", {}, {1, 2, 3, 4}),
    )

    @pytest.mark.parametrize(("conditions", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
    def test_filters_select_points(
        self, filterable: Handle, conditions: dict[str, list[q.Condition]], expected: set[int]
    ) -> None:
        assert filterable.ids(**conditions) == expected
        assert filterable.count(**conditions) == len(expected)
        counted = q.CountPoints(collection_name=filterable.name, filter=q.Filter(**conditions))
        assert filterable.stub.Count(counted).result.count == len(expected)  # exact by default
        hits = filterable.query([1, 0, 0, 0], filter=q.Filter(**conditions))
        assert {plain_id(hit.id) for hit in hits} == expected

    def test_malformed_filters_are_refused(self, filterable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, filterable.count, must=[has_id("no-uuid")])
        refusal(grpc.StatusCode.INVALID_ARGUMENT, filterable.count, must=[field("a[", integer=1)])
