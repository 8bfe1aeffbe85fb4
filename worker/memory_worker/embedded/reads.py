"""Reads of several points: scrolls, facets and queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded import convert
from memory_worker.embedded.filters import filter_from_proto
from memory_worker.embedded.refusals import bad_argument, bad_input, no_point, not_served, out_of_range

if TYPE_CHECKING:
    from memory_worker.embedded.shards import Collection

DEFAULT_LIMIT = 10

_OFFSET_AND_ORDER = (
    "Cannot use an `offset` when using `order_by`. The alternative for paging is to use `order_by.start_from` and "
    "a filter to exclude the IDs that you've already seen for the `order_by.start_from` value"
)

_THRESHOLD_WITHOUT_QUERY = (
    "Bad request: A query is needed to use the score_threshold. Can't have score_threshold without defining a query."
)


def optional_filter(request: Any) -> edge.Filter | None:
    """Return the filter of a request, or ``None`` if it has none."""
    return filter_from_proto(request.filter) if request.HasField("filter") else None


def _limit(request: Any) -> int:
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    if limit < 1:
        raise out_of_range("limit", limit, "must be 1 or larger")
    return int(limit)


def scroll(collection: Collection, request: q.ScrollPoints) -> q.ScrollResponse:
    """Return a page of points in the order of their ids or of a payload field. Only the first has a next page."""
    if request.HasField("order_by") and request.HasField("offset"):
        raise bad_input(_OFFSET_AND_ORDER)
    whole_payload = not request.HasField("with_payload")
    records, next_id = collection.shard.scroll(
        edge.ScrollRequest(
            offset=convert.id_from_proto(request.offset) if request.HasField("offset") else None,
            limit=_limit(request),
            filter=optional_filter(request),
            with_payload=whole_payload or convert.with_payload(request.with_payload),
            with_vector=convert.with_vectors(request.with_vectors),
            order_by=_order(request.order_by) if request.HasField("order_by") else None,
        )
    )
    return q.ScrollResponse(
        result=[convert.record_to_proto(record) for record in records],
        next_page_offset=None if next_id is None else convert.id_to_proto(next_id),
    )


def _order(order: q.OrderBy) -> edge.OrderBy:
    start = order.start_from.WhichOneof("value")
    if start not in {None, "integer", "float"}:
        raise not_served(f"order_by.start_from of type {start}")
    return edge.OrderBy(
        order.key,
        direction=edge.Direction.Desc if order.direction == q.Direction.Desc else edge.Direction.Asc,
        start_from=None if start is None else getattr(order.start_from, start),
    )


def facet(collection: Collection, request: q.FacetCounts) -> q.FacetResponse:
    """Count the points of each value of a payload field, most frequent values first."""
    if not request.key:
        raise out_of_range("key", '""', "must be at least 1 characters")
    if request.HasField("timeout") and request.timeout < 1:
        raise out_of_range("timeout", request.timeout, "must be 1 or larger")
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    facets = edge.FacetRequest(request.key, limit=limit, exact=request.exact, filter=optional_filter(request))
    if not limit:  # a server answers even for a field without an index
        return q.FacetResponse()
    hits = collection.shard.facet(facets).hits
    return q.FacetResponse(hits=[q.FacetHit(value=_facet_value(hit.value), count=hit.count) for hit in hits])


def _facet_value(value: str | int | bool) -> q.FacetValue:
    if isinstance(value, bool):
        return q.FacetValue(bool_value=value)
    return q.FacetValue(integer_value=value) if isinstance(value, int) else q.FacetValue(string_value=value)


def query_from_proto(collection: Collection, request: q.QueryPoints) -> edge.QueryRequest:
    """Return a query for the points that are nearest to a dense vector, or to that of another point.

    Without a vector, points are returned in the order of their ids.
    """
    convert.default_vector_only(request.using)
    if request.HasField("query"):
        vector, conditions = _nearest(collection, request)
        query = edge.Query.Nearest(vector)
    elif request.HasField("score_threshold"):
        raise bad_argument(_THRESHOLD_WITHOUT_QUERY)
    else:
        query, conditions = None, optional_filter(request)
    return edge.QueryRequest(
        limit=_limit(request),
        offset=request.offset,
        query=query,
        with_vector=convert.with_vectors(request.with_vectors),
        with_payload=convert.with_payload(request.with_payload),
        filter=conditions,
        score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
        params=convert.search_params(request.params) if request.HasField("params") else None,
    )


def _nearest(collection: Collection, request: q.QueryPoints) -> tuple[Any, edge.Filter | None]:
    """Return the vector of a query and its filter, which excludes the point whose vector it is."""
    conditions = optional_filter(request)
    if request.query.nearest.WhichOneof("variant") != "id":
        return convert.query_vector(request.query, collection.dimension), conditions
    point_id = convert.id_from_proto(request.query.nearest.id)
    found = collection.shard.retrieve([point_id], False, True)
    if not found:
        raise no_point(point_id)
    others = edge.Filter(must=[conditions] if conditions else None, must_not=[edge.HasIdCondition({point_id})])
    return found[0].vector, others
