"""Queries, on the embedded engine or on a server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    ALL_PAYLOAD,
    ALL_VECTORS,
    Handle,
    field,
    keywords,
    numbers,
    pid,
    plain,
    plain_id,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


@pytest.fixture
def searchable(handle: Handle) -> Handle:
    handle.update(
        upsert(
            point(1, [1, 0, 0, 0], user_id=1, active=True, category="personal"),
            point(2, [4, 3, 0, 0], user_id=1, active=True, category="work"),
            point(3, [0, 1, 0, 0], user_id=1, active=False, category="personal"),
            point(4, [1, 0, 0, 0], user_id=2, active=True, category="personal"),
            point(5, [-1, 0, 0, 0], user_id=1, active=True, category="personal"),
        )
    )
    return handle


class TestQueries:
    def test_hits_are_ranked_by_cosine(self, searchable: Handle) -> None:
        hits = searchable.query([2, 0, 0, 0], limit=10, filter=q.Filter(must=[field("user_id", integer=1)]))
        assert [plain_id(hit.id) for hit in hits] == [1, 2, 3, 5]
        assert [hit.score for hit in hits] == pytest.approx([1, 0.8, 0, -1], abs=1e-6)

    def test_a_filter_limits_hits_to_active_points_of_a_user(self, searchable: Handle) -> None:
        mine = [field("user_id", integer=1), field("active", boolean=True)]
        hits = searchable.query([1, 0, 0, 0], limit=10, filter=q.Filter(must=mine))
        assert [plain_id(hit.id) for hit in hits] == [1, 2, 5]
        mine.append(field("category", keyword="personal"))
        hits = searchable.query([1, 0, 0, 0], limit=10, filter=q.Filter(must=mine))
        assert [plain_id(hit.id) for hit in hits] == [1, 5]

    def test_two_points_with_one_logical_id_are_two_hits(self, handle: Handle) -> None:
        new = str(uuid.uuid4())
        handle.update(
            upsert(point(17, [4, 3, 0, 0], _point_id="mem_1_1"), point(new, [1, 0, 0, 0], _point_id="mem_1_1"))
        )
        assert [plain_id(hit.id) for hit in handle.query([1, 0, 0, 0], limit=10)] == [new, 17]
        assert [plain_id(hit.id) for hit in handle.query([1, 0, 0, 0], limit=1)] == [new]
        pages, request = [], q.ScrollPoints(collection_name=handle.name, limit=1)
        request.filter.must.append(field("_point_id", keywords=keywords("mem_1_1")))
        for _ in range(2):
            page = handle.stub.Scroll(request, timeout=30)
            pages.append([plain_id(found.id) for found in page.result])
            request.offset.CopyFrom(page.next_page_offset)
        assert pages == [[17], [new]]
        assert not page.HasField("next_page_offset")

    def test_a_score_threshold_removes_lower_scores(self, searchable: Handle) -> None:
        for threshold, expected in ((0.79, {1, 2, 4}), (0.81, {1, 4}), (-1.1, {1, 2, 3, 4, 5})):
            hits = searchable.query([1, 0, 0, 0], limit=10, score_threshold=threshold)
            assert {plain_id(hit.id) for hit in hits} == expected

    def test_limit_and_offset_select_a_page(self, searchable: Handle) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)])
        pages = [searchable.query([1, 0, 0, 0], limit=2, offset=start, filter=mine) for start in (0, 2, 4)]
        assert [[plain_id(hit.id) for hit in page] for page in pages] == [[1, 2], [3, 5], []]

    def test_hits_contain_payload_and_vector_on_request(self, searchable: Handle) -> None:
        bare = searchable.query([0, 1, 0, 0], limit=1)[0]
        assert dict(bare.payload) == {}
        assert not bare.HasField("vectors")
        full = searchable.query([0, 1, 0, 0], limit=1, with_payload=ALL_PAYLOAD, with_vectors=ALL_VECTORS)[0]
        assert {key: plain(item) for key, item in full.payload.items()} == {
            "user_id": 1,
            "active": False,
            "category": "personal",
        }
        assert numbers(full.vectors) == pytest.approx([0, 1, 0, 0])

    def test_fields_of_the_payload_can_be_selected(self, searchable: Handle) -> None:
        include = q.WithPayloadSelector(include=q.PayloadIncludeSelector(fields=["user_id"]))
        exclude = q.WithPayloadSelector(exclude=q.PayloadExcludeSelector(fields=["user_id"]))
        assert set(searchable.query([0, 1, 0, 0], limit=1, with_payload=include)[0].payload) == {"user_id"}
        found = searchable.query([0, 1, 0, 0], limit=1, with_payload=exclude)[0].payload
        assert set(found) == {"active", "category"}

    def test_search_parameters_are_accepted(self, searchable: Handle) -> None:
        params = q.SearchParams(
            hnsw_ef=64, exact=True, quantization=q.QuantizationSearchParams(ignore=False, rescore=True)
        )
        assert plain_id(searchable.query([0, 1, 0, 0], limit=1, params=params)[0].id) == 3

    def test_the_results_of_a_batch_are_in_order(self, searchable: Handle) -> None:
        requests = [
            searchable.query_request([0, 1, 0, 0], limit=1),
            searchable.query_request([-1, 0, 0, 0], limit=1),
        ]
        batch = q.QueryBatchPoints(collection_name=searchable.name, query_points=requests)
        results = searchable.stub.QueryBatch(batch).result
        assert [[plain_id(hit.id) for hit in one.result] for one in results] == [[3], [5]]

    def test_a_batch_with_one_bad_query_fails(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        requests = [searchable.query_request([0, 1, 0, 0]), searchable.query_request([1])]
        batch = q.QueryBatchPoints(collection_name=searchable.name, query_points=requests)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.stub.QueryBatch, batch)

    def test_a_wrong_dimension_is_refused(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 2, 3])
        assert "Vector dimension error: expected dim: 4, got 3" in error.details()

    def test_an_unknown_collection_or_vector_is_refused(
        self, searchable: Handle, collection_names: Callable[[], str], refusal: Callable[..., grpc.RpcError]
    ) -> None:
        unknown = Handle(searchable.stub, collection_names())
        refusal(grpc.StatusCode.NOT_FOUND, unknown.query, [1, 0, 0, 0])
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 0, 0, 0], using="other")

    def test_a_query_without_a_vector_returns_points_in_the_order_of_their_ids(self, searchable: Handle) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)])
        both = [
            q.QueryPoints(collection_name=searchable.name, filter=mine, limit=3, offset=start, with_payload=ALL_PAYLOAD)
            for start in (0, 3)
        ]
        batch = q.QueryBatchPoints(collection_name=searchable.name, query_points=both)
        pages = [one.result for one in searchable.stub.QueryBatch(batch).result]
        assert [[plain_id(hit.id) for hit in page] for page in pages] == [[1, 2, 3], [5]]
        assert {hit.score for page in pages for hit in page} == {1.0}
        assert plain(pages[0][1].payload["category"]) == "work"

    def test_a_query_without_a_vector_has_no_score_threshold(
        self, searchable: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        request = q.QueryPoints(collection_name=searchable.name, score_threshold=0.5)
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.stub.Query, request)
        assert "A query is needed to use the score_threshold" in error.details()

    def test_a_limit_of_zero_is_refused(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 0, 0, 0], limit=0)


class TestQueriesByPoint:
    def by_point(self, handle: Handle, point_id: int | str, **options: Any) -> list[q.ScoredPoint]:
        nearest = q.Query(nearest=q.VectorInput(id=pid(point_id)))
        request = q.QueryPoints(collection_name=handle.name, query=nearest, **options)
        single = list(handle.stub.Query(request, timeout=30).result)
        batch = handle.stub.QueryBatch(
            q.QueryBatchPoints(collection_name=handle.name, query_points=[request]), timeout=30
        )
        assert list(batch.result[0].result) == single
        return single

    def test_the_point_itself_is_no_hit(self, searchable: Handle) -> None:
        hits = self.by_point(searchable, 2)
        assert {plain_id(hit.id) for hit in hits} == {1, 3, 4, 5}
        assert [hit.score for hit in hits] == pytest.approx([0.8, 0.8, 0.6, -0.8], abs=1e-6)

    def test_the_other_options_apply(self, searchable: Handle) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)], must_not=[field("active", boolean=False)])
        hits = self.by_point(searchable, 2, filter=mine, with_payload=ALL_PAYLOAD)
        assert [plain_id(hit.id) for hit in hits] == [1, 5]
        assert plain(hits[0].payload["category"]) == "personal"
        assert [plain_id(hit.id) for hit in self.by_point(searchable, 2, filter=mine, offset=1)] == [5]
        assert [plain_id(hit.id) for hit in self.by_point(searchable, 2, filter=mine, score_threshold=0)] == [1]
        either = q.Filter(should=[field("user_id", integer=2), field("active", boolean=False)])
        assert {plain_id(hit.id) for hit in self.by_point(searchable, 3, filter=either)} == {4}

    def test_an_unknown_point_is_not_found(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        unknown = str(uuid.uuid4())
        for point_id in (99, unknown):
            error = refusal(grpc.StatusCode.NOT_FOUND, self.by_point, searchable, point_id)
            assert error.details() == f"Not found: No point with id {point_id} found"
        refusal(grpc.StatusCode.INVALID_ARGUMENT, self.by_point, searchable, "no-uuid")

    def test_a_query_for_nothing_is_refused(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        for query, missing in ((q.Query(), "Query"), (q.Query(nearest=q.VectorInput()), "VectorInput")):
            request = q.QueryPoints(collection_name=searchable.name, query=query)
            error = refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.stub.Query, request)
            assert error.details() == f"{missing} variant is missing"
