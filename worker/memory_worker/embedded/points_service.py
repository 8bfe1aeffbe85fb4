"""``qdrant.Points``: writes, reads and payload indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded import convert, reads, updates
from memory_worker.embedded.collections_service import check_name
from memory_worker.embedded.refusals import answering, out_of_range, serve_only
from memory_worker.embedded.schema import index_from_proto

if TYPE_CHECKING:
    from memory_worker.embedded.shards import Collection, Shards

# Options that have no effect on a single node.
_WRITE_HINTS = ("collection_name", "wait", "ordering", "timeout")
_READ_HINTS = ("collection_name", "read_consistency", "timeout")
_SERVED_IN_QUERIES = (
    *_READ_HINTS,
    "query",
    "using",
    "filter",
    "params",
    "score_threshold",
    "limit",
    "offset",
    "with_payload",
    "with_vectors",
)


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
                result=[
                    updates.apply_one_of_batch(collection, operation, wait=request.wait)
                    for operation in request.operations
                ]
            )

    @answering
    def Upsert(self, request: q.UpsertPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Insert or overwrite points."""
        return self._apply("upsert", request)

    @answering
    def Delete(self, request: q.DeletePoints) -> q.PointsOperationResponse:  # noqa: N802
        """Delete points by id or by filter."""
        return self._apply("delete_points", request)

    @answering
    def SetPayload(self, request: q.SetPayloadPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Set fields of payloads. Other fields are kept."""
        return self._apply("set_payload", request)

    @answering
    def OverwritePayload(self, request: q.SetPayloadPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Replace whole payloads."""
        return self._apply("overwrite_payload", request)

    @answering
    def DeletePayload(self, request: q.DeletePayloadPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Remove fields of payloads."""
        return self._apply("delete_payload", request)

    @answering
    def ClearPayload(self, request: q.ClearPayloadPoints) -> q.PointsOperationResponse:  # noqa: N802
        """Remove all fields of payloads."""
        return self._apply("clear_payload", request)

    def _apply(self, kind: str, request: Any) -> q.PointsOperationResponse:
        updates.check_served(kind, request, also=_WRITE_HINTS)
        collection = self._collection(request)
        with collection.in_order():
            return q.PointsOperationResponse(result=updates.apply(collection, kind, request, wait=request.wait))

    @answering
    def CreateFieldIndex(self, request: q.CreateFieldIndexCollection) -> q.PointsOperationResponse:  # noqa: N802
        """Index a payload field, for existing and new points."""
        serve_only(request, (*_WRITE_HINTS, "field_name", "field_type", "field_index_params"))
        if not request.field_name:
            raise out_of_range("field_name", '""', "must be at least 1 characters")
        operation = edge.UpdateOperation.create_field_index(request.field_name, index_from_proto(request))
        return q.PointsOperationResponse(result=updates.update(self._collection(request), operation, wait=request.wait))

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
        """Return points in the order of their ids, and the first id of the next page, or in the order of a field."""
        served = ("filter", "offset", "limit", "with_payload", "with_vectors", "order_by")
        serve_only(request, (*_READ_HINTS, *served))
        return reads.scroll(self._collection(request), request)

    @answering
    def Count(self, request: q.CountPoints) -> q.CountResponse:  # noqa: N802
        """Count points, exactly by default."""
        serve_only(request, (*_READ_HINTS, "filter", "exact"))
        exact = request.exact if request.HasField("exact") else True
        counted = edge.CountRequest(exact=exact, filter=reads.optional_filter(request))
        return q.CountResponse(result=q.CountResult(count=self._collection(request).shard.count(counted)))

    @answering
    def Facet(self, request: q.FacetCounts) -> q.FacetResponse:  # noqa: N802
        """Count the points of each value of a payload field."""
        serve_only(request, (*_READ_HINTS, "key", "filter", "limit", "exact"))
        return reads.facet(self._collection(request), request)

    @answering
    def Query(self, request: q.QueryPoints) -> q.QueryResponse:  # noqa: N802
        """Return the points nearest to a dense vector or to a point, best first."""
        serve_only(request, _SERVED_IN_QUERIES)
        collection = self._collection(request)
        hits = collection.shard.query(reads.query_from_proto(collection, request))
        return q.QueryResponse(result=[convert.scored_to_proto(hit) for hit in hits])

    @answering
    def QueryBatch(self, request: q.QueryBatchPoints) -> q.QueryBatchResponse:  # noqa: N802
        """Run several queries. If one is refused, all are."""
        serve_only(request, (*_READ_HINTS, "query_points"))
        for query in request.query_points:
            serve_only(query, _SERVED_IN_QUERIES)
        collection = self._collection(request)
        queries = [reads.query_from_proto(collection, query) for query in request.query_points]
        batches = collection.shard.query_batch(edge.QueryBatchRequest(queries))
        return q.QueryBatchResponse(
            result=[q.BatchResult(result=[convert.scored_to_proto(hit) for hit in hits]) for hits in batches]
        )
