"""Distances, dimensions and the vectors of answers, on the embedded engine or on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    ALL_VECTORS,
    Handle,
    creation,
    has_id,
    numbers,
    pid,
    plain_id,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytest_plugins = ["tests.integration.conformance_fixtures"]

VECTORS = {1: [1.0, 0.0], 2: [2.0, 2.0], 3: [3.0, 5.0], 4: [-2.0, -1.0]}
QUERY = [1.0, 2.0]


@pytest.fixture
def spread(collections: q.CollectionsStub, points: q.PointsStub, collection_name: str) -> Callable[..., Handle]:
    """Make a collection with the points ``VECTORS``."""

    def make(distance: q.Distance.ValueType) -> Handle:
        collections.Create(creation(collection_name, 2, distance))
        handle = Handle(points, collection_name)
        handle.update(upsert(*(point(key, vector) for key, vector in VECTORS.items())))
        return handle

    return make


class TestDistances:
    CASES = (
        ("dot", q.Distance.Dot, [(3, 13), (2, 6), (1, 1), (4, -4)], 5, [3, 2]),
        ("euclid", q.Distance.Euclid, [(2, 1), (1, 2), (3, 13**0.5), (4, 18**0.5)], 2.1, [2, 1]),
        ("manhattan", q.Distance.Manhattan, [(2, 1), (1, 2), (3, 5), (4, 6)], 2.1, [2, 1]),
        ("cosine", q.Distance.Cosine, [(3, 13 / 170**0.5), (2, 3 / 10**0.5), (1, 1 / 5**0.5), (4, -0.8)], 0.5, [3, 2]),
    )

    @pytest.mark.parametrize(
        ("distance", "ranking", "threshold", "better"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
    )
    def test_hits_are_ranked_by_the_distance(
        self,
        spread: Callable[..., Handle],
        distance: q.Distance.ValueType,
        ranking: list[tuple[int, float]],
        threshold: float,
        better: list[int],
    ) -> None:
        handle = spread(distance)
        hits = handle.query(QUERY)
        assert [plain_id(hit.id) for hit in hits] == [key for key, _ in ranking]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in ranking], abs=1e-5)
        assert [plain_id(hit.id) for hit in handle.query(QUERY, score_threshold=threshold)] == better
        rest = q.Filter(must_not=[has_id(ranking[0][0])])
        assert [plain_id(hit.id) for hit in handle.query(QUERY, limit=1, filter=rest)] == [ranking[1][0]]
        exact = q.SearchParams(exact=True)
        assert [plain_id(hit.id) for hit in handle.query(QUERY, params=exact)] == [key for key, _ in ranking]

    @pytest.mark.parametrize("name", ["Cosine", "Euclid", "Dot", "Manhattan"])
    def test_the_distance_is_reported(self, collections: q.CollectionsStub, collection_name: str, name: str) -> None:
        collections.Create(creation(collection_name, 1_536, q.Distance.Value(name)))
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=collection_name)).result
        vectors = info.config.params.vectors_config.params
        assert (vectors.distance, vectors.size) == (q.Distance.Value(name), 1_536)

    def test_an_unknown_distance_is_refused(
        self, collections: q.CollectionsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        for distance in (q.Distance.UnknownDistance, 99):
            refusal(grpc.StatusCode.INVALID_ARGUMENT, collections.Create, creation(collection_name, 2, distance))

    @pytest.mark.parametrize("distance", [q.Distance.Dot, q.Distance.Euclid, q.Distance.Manhattan])
    def test_a_wrong_dimension_is_refused(
        self, spread: Callable[..., Handle], distance: q.Distance.ValueType, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        handle = spread(distance)
        for call in (lambda: handle.update(upsert(point(9, [1.0]))), lambda: handle.query([1.0, 2.0, 3.0])):
            error = refusal(grpc.StatusCode.INVALID_ARGUMENT, call)
            assert "Vector dimension error: expected dim: 2" in error.details()

    def test_a_query_by_point_uses_the_distance(self, spread: Callable[..., Handle]) -> None:
        handle = spread(q.Distance.Euclid)
        nearest = q.Query(nearest=q.VectorInput(id=pid(1)))
        hits = handle.stub.Query(q.QueryPoints(collection_name=handle.name, query=nearest)).result
        assert [plain_id(hit.id) for hit in hits] == [2, 4, 3]
        assert [hit.score for hit in hits] == pytest.approx([5**0.5, 10**0.5, 29**0.5], abs=1e-5)


class TestVectors:
    """All reads return a vector in the same form: unchanged, or for cosine with length 1."""

    @pytest.mark.parametrize(
        ("distance", "stored"),
        [
            (q.Distance.Cosine, [0.6, 0.8]),
            (q.Distance.Dot, [3, 4]),
            (q.Distance.Euclid, [3, 4]),
            (q.Distance.Manhattan, [3, 4]),
        ],
    )
    def test_reads_return_vectors_on_request(
        self, spread: Callable[..., Handle], distance: q.Distance.ValueType, stored: Sequence[float]
    ) -> None:
        handle = spread(distance)
        handle.update(upsert(point(5, [3, 4])))
        only = q.Filter(must=[has_id(5)])
        scrolled = q.ScrollPoints(collection_name=handle.name, filter=only, with_vectors=ALL_VECTORS)
        found = [
            handle.get(5)[5],
            handle.stub.Scroll(scrolled).result[0],
            handle.query([1, 0], filter=only, with_vectors=ALL_VECTORS)[0],
        ]
        for one in found:
            assert one.vectors.WhichOneof("vectors_options") == "vector"
            assert numbers(one.vectors) == pytest.approx(stored, abs=1e-6)
        assert found[0].vectors == found[1].vectors == found[2].vectors

    def test_the_zero_vector_is_kept(self, spread: Callable[..., Handle]) -> None:
        for_cosine = spread(q.Distance.Cosine)
        for_cosine.update(upsert(point(5, [0, 0])))
        assert numbers(for_cosine.get(5)[5].vectors) == [0, 0]

    def test_no_vectors_are_returned_if_they_are_turned_off(self, spread: Callable[..., Handle]) -> None:
        handle = spread(q.Distance.Dot)
        off = q.WithVectorsSelector(enable=False)
        assert not handle.query(QUERY, with_vectors=off)[0].HasField("vectors")
        scrolled = q.ScrollPoints(collection_name=handle.name, with_vectors=off)
        assert not handle.stub.Scroll(scrolled).result[0].HasField("vectors")
        got = q.GetPoints(collection_name=handle.name, ids=[pid(1)], with_vectors=off)
        assert not handle.stub.Get(got).result[0].HasField("vectors")
