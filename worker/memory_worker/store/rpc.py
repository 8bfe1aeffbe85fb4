"""Calls to Qdrant: stubs, credentials, deadlines, and errors as those of this project."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from qdrant_client import grpc as q

from memory_worker.contract.errors import DeadlinePassed, StoreError
from memory_worker.failpoints import failpoint
from memory_worker.store.failures import store_error
from memory_worker.telemetry.metrics import QDRANT_REQUESTS, timed
from memory_worker.tracing import requesting

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Answer_co = TypeVar("_Answer_co", covariant=True)


class _Stub(Protocol[_Request_contra, _Answer_co]):
    def __call__(self, request: _Request_contra, /, *, timeout: float, metadata: Any) -> Awaitable[_Answer_co]: ...


@dataclass(frozen=True, slots=True)
class Method(Generic[_Request_contra, _Answer_co]):
    """A method of Qdrant, with its name in metrics and traces.

    Without ``is_traced`` its requests have no span, because each serves several callers.
    """

    name: str
    stub: _Stub[_Request_contra, _Answer_co]
    is_traced: bool = True


@dataclass(slots=True)
class SerializedWrite:
    """A serialized batch of writes, which must not be sent after ``deadline`` (a monotonic time in seconds)."""

    collection_name: str
    body: bytes
    deadline: float
    was_sent: bool = True


def _body_before_deadline(write: SerializedWrite) -> bytes:
    """Return the bytes to send. gRPC calls this right before it sends.

    After the deadline the request is empty. It names no collection, so Qdrant refuses it. gRPC would swallow an
    exception here.
    """
    failpoint("sending")
    if time.monotonic() < write.deadline:
        return write.body
    write.was_sent = False
    return b""


class QdrantRpc:
    """The methods of Qdrant that this worker calls."""

    health_check: Method[q.HealthCheckRequest, q.HealthCheckReply]
    list_collections: Method[q.ListCollectionsRequest, q.ListCollectionsResponse]
    list_aliases: Method[q.ListAliasesRequest, q.ListAliasesResponse]
    get_collection: Method[q.GetCollectionInfoRequest, q.GetCollectionInfoResponse]
    collection_exists: Method[q.CollectionExistsRequest, q.CollectionExistsResponse]
    create_collection: Method[q.CreateCollection, q.CollectionOperationResponse]
    update_collection: Method[q.UpdateCollection, q.CollectionOperationResponse]
    delete_collection: Method[q.DeleteCollection, q.CollectionOperationResponse]
    create_index: Method[q.CreateFieldIndexCollection, q.PointsOperationResponse]
    update_batch: Method[SerializedWrite, q.UpdateBatchResponse]
    query: Method[q.QueryPoints, q.QueryResponse]
    query_batch: Method[q.QueryBatchPoints, q.QueryBatchResponse]
    scroll: Method[q.ScrollPoints, q.ScrollResponse]
    count: Method[q.CountPoints, q.CountResponse]
    facet: Method[q.FacetCounts, q.FacetResponse]

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str | None, timeout_s: float) -> None:
        collections, points, service = (
            cast("Any", stub)(channel) for stub in (q.CollectionsStub, q.PointsStub, q.QdrantStub)
        )
        self._metadata = (("api-key", api_key),) if api_key else ()
        self._timeout_s = timeout_s
        self.health_check = Method("health_check", service.HealthCheck)
        self.list_collections = Method("list_collections", collections.List)
        self.list_aliases = Method("list_aliases", collections.ListAliases)
        self.get_collection = Method("get_collection", collections.Get)
        self.collection_exists = Method("collection_exists", collections.CollectionExists)
        self.create_collection = Method("create_collection", collections.Create)
        self.update_collection = Method("update_collection", collections.Update)
        self.delete_collection = Method("delete_collection", collections.Delete)
        self.create_index = Method("create_index", points.CreateFieldIndex)
        update_batch = channel.unary_unary(
            "/qdrant.Points/UpdateBatch",
            request_serializer=_body_before_deadline,
            response_deserializer=q.UpdateBatchResponse.FromString,
        )
        self.update_batch = Method("update_batch", cast("Any", update_batch))
        self.query = Method("query", points.Query, is_traced=False)
        self.query_batch = Method("query_batch", points.QueryBatch, is_traced=False)
        self.scroll = Method("scroll", points.Scroll)
        self.count = Method("count", points.Count)
        self.facet = Method("facet", points.Facet)

    async def write(self, verb: str, collection: str, body: bytes, *, deadline: float) -> q.UpdateBatchResponse:
        """Send a serialized batch of writes that must end before ``deadline``, a monotonic time in seconds.

        ``verb`` describes the call in error messages. Raises as `call`, and `DeadlinePassed` if it is too late to send
        it.
        """
        doing, write = f"{verb} {collection}", SerializedWrite(collection, body, deadline)
        too_late = DeadlinePassed(f"{doing}: too late to send it")
        failpoint("serialized")
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise too_late
        try:
            answer = await self.call(doing, self.update_batch, write, timeout_s=left_s)
        except StoreError as error:
            if not write.was_sent:
                raise too_late from error
            raise
        if not write.was_sent:
            raise too_late
        return answer

    async def call(
        self,
        doing: str,
        method: Method[_Request_contra, _Answer_co],
        request: _Request_contra,
        *,
        timeout_s: float | None = None,
    ) -> _Answer_co:
        """Call ``method``. ``doing`` describes the call in error messages.

        Raises `StoreRefused` if the request is to blame, `StoreUnavailable` otherwise. See `store_error`.
        """
        deadline_s = self._timeout_s if timeout_s is None else timeout_s
        collection = getattr(request, "collection_name", "")
        traced = requesting("qdrant", method.name, collection) if method.is_traced else nullcontext()
        with traced, timed(QDRANT_REQUESTS, method.name) as timing:
            try:
                return await method.stub(request, timeout=deadline_s, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                timing.code = error.code().name
                raise store_error(doing, error) from error
