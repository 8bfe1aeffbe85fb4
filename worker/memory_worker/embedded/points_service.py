"""``qdrant.Points``: writes, reads and payload indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded import convert
from memory_worker.embedded.collections_service import check_name
from memory_worker.embedded.filters import filter_from_proto
from memory_worker.embedded.refusals import (
    Refused,
    answering,
    bad_argument,
    engine_refusal,
    not_served,
    out_of_range,
    serve_only,
)
from memory_worker.embedded.schema import index_from_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memory_worker.embedded.shards import Collection, Shards

DEFAULT_LIMIT = 10
POINTS_PER_PART = 16
"""An upsert is split into parts of this size. Everything else waits while Edge applies a part."""

_UPDATE_MODES = {
    q.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    q.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    q.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}
_Point = TypeVar("_Point")

# Options that have no effect on a single node.
_WRITE_HINTS = ("collection_name", "wait", "ordering", "timeout")
_READ_HINTS = ("collection_name", "read_consistency", "timeout")


class PointsService(q.PointsServicer):
    """``qdrant.Points``."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def _collection(self, request: Any) -> Collection:
        check_name(request.collection_name)
        return self._shards[request.collection_name]

    @answering
    def UpdateBatch(self, request: q.UpdateBatchPoints) -> q.UpdateBatchResponse:  # noqa: N802
        """Apply operations in order. If one fails, the call ends, and earlier ones are kept."""
        serve_only(request, (*_WRITE_HINTS, "operations"))
        if not request.operations:
            raise out_of_range("operations", "[]", "must have at least 1 item")
        collection = self._collection(request)
        with collection.in_order():
            return q.UpdateBatchResponse(
                result=[_apply(collection, operation, wait=request.wait) for operation in request.operations]
            )

    @answering
    def Upsert(self, request: q.UpsertPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Insert or overwrite points."""
        serve_only(request, (*_WRITE_HINTS, "points", "update_filter", "update_mode"))
        collection = self._collection(request)
        with collection.in_order():
            return q.PointsOperationResponse(result=_upsert(collection, request, wait=request.wait))

    @answering
    def Delete(self, request: q.DeletePoints) -> q.PointsOperationResponse:  # noqa: N802
        """Delete points by id or by filter."""
        serve_only(request, (*_WRITE_HINTS, "points"))
        return q.PointsOperationResponse(result=_delete(self._collection(request), request, wait=request.wait))

    @answering
    def CreateFieldIndex(self, request: q.CreateFieldIndexCollection) -> q.PointsOperationResponse:  # noqa: N802
        """Index a payload field, for existing and new points."""
        serve_only(request, (*_WRITE_HINTS, "field_name", "field_type", "field_index_params"))
        if not request.field_name:
            raise out_of_range("field_name", "''", "must be at least 1 character")
        operation = edge.UpdateOperation.create_field_index(request.field_name, index_from_proto(request))
        return q.PointsOperationResponse(result=_update(self._collection(request), operation, wait=request.wait))

    @answering
    def Get(self, request: q.GetPoints) -> q.GetResponse:  # noqa: N802
        """Return the points with these ids that exist."""
        serve_only(request, (*_READ_HINTS, "ids", "with_payload", "with_vectors"))
        records = self._collection(request).shard.retrieve(
            convert.ids_from_proto(request.ids),
            convert.with_payload(request.with_payload),
            convert.with_vectors(request.with_vectors),
        )
        return q.GetResponse(result=[convert.record_to_proto(record) for record in records])

    @answering
    def Scroll(self, request: q.ScrollPoints) -> q.ScrollResponse:  # noqa: N802
        """Return points in the order of their ids, and the first id of the next page."""
        served = ("filter", "offset", "limit", "with_payload", "with_vectors")
        serve_only(request, (*_READ_HINTS, *served))
        whole_payload = not request.HasField("with_payload")
        records, next_id = self._collection(request).shard.scroll(
            edge.ScrollRequest(
                offset=convert.id_from_proto(request.offset) if request.HasField("offset") else None,
                limit=_limit(request),
                filter=_filter(request),
                with_payload=whole_payload or convert.with_payload(request.with_payload),
                with_vector=convert.with_vectors(request.with_vectors),
            )
        )
        return q.ScrollResponse(
            result=[convert.record_to_proto(record) for record in records],
            next_page_offset=None if next_id is None else convert.id_to_proto(next_id),
        )

    @answering
    def Count(self, request: q.CountPoints) -> q.CountResponse:  # noqa: N802
        """Count points, exactly by default."""
        serve_only(request, (*_READ_HINTS, "filter", "exact"))
        exact = request.exact if request.HasField("exact") else True
        count = self._collection(request).shard.count(edge.CountRequest(exact=exact, filter=_filter(request)))
        return q.CountResponse(result=q.CountResult(count=count))

    @answering
    def Query(self, request: q.QueryPoints) -> q.QueryResponse:  # noqa: N802
        """Return the points nearest to a dense vector, best first."""
        collection = self._collection(request)
        hits = collection.shard.query(_query(request, collection.dimension))
        return q.QueryResponse(result=[convert.scored_to_proto(hit) for hit in hits])

    @answering
    def QueryBatch(self, request: q.QueryBatchPoints) -> q.QueryBatchResponse:  # noqa: N802
        """Run several queries. If one is refused, all are."""
        serve_only(request, (*_READ_HINTS, "query_points"))
        collection = self._collection(request)
        queries = [_query(query, collection.dimension) for query in request.query_points]
        batches = collection.shard.query_batch(edge.QueryBatchRequest(queries))
        return q.QueryBatchResponse(
            result=[q.BatchResult(result=[convert.scored_to_proto(hit) for hit in hits]) for hits in batches]
        )


def _filter(request: Any) -> edge.Filter | None:
    return filter_from_proto(request.filter) if request.HasField("filter") else None


def _limit(request: Any) -> int:
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    if limit < 1:
        raise out_of_range("limit", limit, "must be 1 or larger")
    return int(limit)


def _query(request: q.QueryPoints, dimension: int) -> edge.QueryRequest:
    served = ("query", "using", "filter", "params", "score_threshold", "limit", "offset")
    serve_only(request, (*_READ_HINTS, *served, "with_payload", "with_vectors"))
    if not request.HasField("query"):
        raise not_served("queries without a vector")
    convert.default_vector_only(request.using)
    return edge.QueryRequest(
        limit=_limit(request),
        offset=request.offset,
        query=edge.Query.Nearest(convert.query_vector(request.query, dimension)),
        with_vector=convert.with_vectors(request.with_vectors),
        with_payload=convert.with_payload(request.with_payload),
        filter=_filter(request),
        score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
        params=convert.search_params(request.params) if request.HasField("params") else None,
    )


def _update(collection: Collection, operation: edge.UpdateOperation, *, wait: bool, points: int = 1) -> q.UpdateResult:
    try:
        number = collection.update(operation, points)
    except Refused:
        raise
    except Exception as error:
        if wait:
            raise engine_refusal(error) from error
        # Without wait, a server has already answered by the time the operation fails.
        return q.UpdateResult(status=q.UpdateStatus.Acknowledged)
    status = q.UpdateStatus.Completed if wait else q.UpdateStatus.Acknowledged
    return q.UpdateResult(operation_id=number, status=status)


def _upsert(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    points: list[edge.Point] = []
    for part in _parts(request.points):
        collection.read_priority.wait_for_reads()
        points += convert.points_from_proto(part, collection.dimension)
    condition = filter_from_proto(request.update_filter) if request.HasField("update_filter") else None
    mode = _UPDATE_MODES[request.update_mode]
    for part in _parts(points):
        collection.read_priority.wait_for_reads()
        operation = edge.UpdateOperation.upsert_points(part, condition=condition, update_mode=mode)
        result = _update(collection, operation, wait=wait, points=len(part))
    return result


def _parts(points: Sequence[_Point]) -> Iterator[list[_Point]]:
    """Split points into parts that take about a millisecond to convert or to apply. No points are one empty part."""
    return (list(points[first : first + POINTS_PER_PART]) for first in range(0, len(points) or 1, POINTS_PER_PART))


def _delete(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    if not request.HasField("points"):
        raise bad_argument("PointSelector is missing")
    operation = _for_selected(
        request.points, edge.UpdateOperation.delete_points, edge.UpdateOperation.delete_points_by_filter
    )
    return _update(collection, operation, wait=wait)


def _set_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    arguments = convert.payload_from_proto(request.payload), request.key if request.HasField("key") else None
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.set_payload(ids, *arguments),
        lambda selected: edge.UpdateOperation.set_payload_by_filter(selected, *arguments),
        wait=wait,
    )


def _overwrite_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    payload = convert.payload_from_proto(request.payload)
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.overwrite_payload(ids, payload),
        lambda selected: edge.UpdateOperation.overwrite_payload_by_filter(selected, payload),
        wait=wait,
    )


def _delete_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    keys = list(request.keys)
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.delete_payload(ids, keys),
        lambda selected: edge.UpdateOperation.delete_payload_by_filter(selected, keys),
        wait=wait,
    )


def _update_selected(
    collection: Collection,
    request: Any,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
    *,
    wait: bool,
) -> q.UpdateResult:
    if not request.HasField("points_selector"):
        raise bad_argument("points_selector is expected")
    return _update(collection, _for_selected(request.points_selector, by_ids, by_filter), wait=wait)


def _for_selected(
    selector: q.PointsSelector,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
) -> edge.UpdateOperation:
    match selector.WhichOneof("points_selector_one_of"):
        case "points":
            return by_ids(convert.ids_from_proto(selector.points.ids))
        case "filter":
            return by_filter(filter_from_proto(selector.filter))
        case _:
            raise bad_argument("Malformed PointsSelector type")


_OPERATIONS: dict[str, tuple[Callable[..., q.UpdateResult], tuple[str, ...]]] = {
    "upsert": (_upsert, ("points", "update_filter", "update_mode")),
    "delete_points": (_delete, ("points",)),
    "set_payload": (_set_payload, ("payload", "points_selector", "key")),
    "overwrite_payload": (_overwrite_payload, ("payload", "points_selector")),
    "delete_payload": (_delete_payload, ("keys", "points_selector")),
}


def _apply(collection: Collection, operation: q.PointsUpdateOperation, *, wait: bool) -> q.UpdateResult:
    kind = operation.WhichOneof("operation")
    if kind is None:
        raise bad_argument("Operation is missing")
    if kind not in _OPERATIONS:
        raise not_served(f"the update operation {kind}")
    apply, served = _OPERATIONS[kind]
    request = getattr(operation, kind)
    serve_only(request, served)
    return apply(collection, request, wait=wait)
