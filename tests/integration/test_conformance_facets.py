"""Counts by value of a payload field, on the embedded engine or on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import Handle, by_ids, delete, field, has_id, point, upsert

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]

NO_INDEX = "Wrong input: No appropriate index for faceting: `{}`. Please create one to facet on this field."


@pytest.fixture
def counted(handle: Handle) -> Handle:
    handle.index("n", field_type=q.FieldType.FieldTypeInteger)
    handle.update(
        upsert(
            point(1, category="work", user_id=1, active=True, n=-5),
            point(2, category="work", user_id=1, active=False, n=2**62),
            point(3, category="home", user_id=1, active=True, n=[1, 2, 1]),
            point(4, category=["home", "work"], user_id=2, active=True),
            point(5, category="a", user_id=2, active=None, n=[]),
            point(6, category="Ä", n=1),
        )
    )
    return handle


def facets(handle: Handle, key: str, **options: Any) -> list[tuple[Any, int]]:
    request = q.FacetCounts(collection_name=handle.name, key=key, **options)
    hits = handle.stub.Facet(request, timeout=30).hits
    return [(getattr(hit.value, hit.value.WhichOneof("variant")), hit.count) for hit in hits]


@pytest.mark.parametrize("exact", [None, False, True])
class TestFacets:
    def test_keywords_are_sorted_by_count_and_then_by_value(self, counted: Handle, exact: bool | None) -> None:
        assert facets(counted, "category", exact=exact) == [("work", 3), ("home", 2), ("a", 1), ("Ä", 1)]

    def test_integers_are_counted_once_per_point(self, counted: Handle, exact: bool | None) -> None:
        assert facets(counted, "n", exact=exact) == [(1, 2), (-5, 1), (2, 1), (2**62, 1)]

    def test_bools_are_counted(self, counted: Handle, exact: bool | None) -> None:
        found = facets(counted, "active", exact=exact)
        assert found == [(True, 3), (False, 1)]
        assert all(isinstance(value, bool) for value, _ in found)

    def test_a_filter_selects_the_points(self, counted: Handle, exact: bool | None) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)])
        assert facets(counted, "category", filter=mine, exact=exact) == [("work", 2), ("home", 1)]
        others = q.Filter(must_not=[has_id(1, 2)])
        found = facets(counted, "category", filter=others, exact=exact)
        assert found == [("home", 2), ("a", 1), ("work", 1), ("Ä", 1)]
        nobody = q.Filter(must=[field("user_id", integer=3)])
        assert facets(counted, "category", filter=nobody, exact=exact) == []
        assert facets(counted, "category", filter=q.Filter(), exact=exact)[0] == ("work", 3)

    def test_the_limit_keeps_the_most_frequent_values(self, counted: Handle, exact: bool | None) -> None:
        assert facets(counted, "category", limit=2, exact=exact) == [("work", 3), ("home", 2)]
        assert facets(counted, "category", limit=0, exact=exact) == []
        assert len(facets(counted, "category", limit=2**40, exact=exact)) == 4
        counted.update(upsert(*(point(n, category=f"c{n}") for n in range(100, 120))))
        assert len(facets(counted, "category", exact=exact)) == 10

    def test_changes_are_counted(self, counted: Handle, exact: bool | None) -> None:
        counted.update(delete(by_ids(1)), upsert(point(2, category="home"), point(5, category="home")))
        found = facets(counted, "category", exact=exact)
        # Exact counts may name a value that no point has any more.
        assert [hit for hit in found if hit[1]] == [("home", 4), ("work", 1), ("Ä", 1)]

    def test_a_field_without_an_index_for_matches_is_refused(
        self, counted: Handle, exact: bool | None, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        only_range = q.IntegerIndexParams(lookup=False, range=True)
        counted.index(
            "ranged",
            q.PayloadIndexParams(integer_index_params=only_range),
            field_type=q.FieldType.FieldTypeInteger,
        )
        counted.index("float", field_type=q.FieldType.FieldTypeFloat)
        for key in ("none", "ranged", "float"):
            error = refusal(grpc.StatusCode.INVALID_ARGUMENT, facets, counted, key, exact=exact)
            assert error.details().startswith(NO_INDEX.format(key))
        assert facets(counted, "none", limit=0, exact=exact) == []


class TestRefusedFacets:
    def test_malformed_requests_are_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, facets, handle, "a[")
        assert error.details() == "Invalid json path: 'a['"
        refusal(grpc.StatusCode.INVALID_ARGUMENT, facets, handle, "")
        refusal(grpc.StatusCode.INVALID_ARGUMENT, facets, handle, "category", timeout=0)
        malformed = q.Filter(must=[has_id("no-uuid")])
        refusal(grpc.StatusCode.INVALID_ARGUMENT, facets, handle, "category", filter=malformed)

    def test_an_unknown_collection_is_refused(
        self, points: q.PointsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        error = refusal(grpc.StatusCode.NOT_FOUND, facets, Handle(points, collection_name), "category")
        assert f"Collection `{collection_name}` doesn't exist!" in error.details()
