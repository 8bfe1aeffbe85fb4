"""Calls to Qdrant: the stubs, the credentials and the deadline, with failures turned into this project's errors."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from qdrant_client import grpc as q

from memory_worker.metrics import QDRANT_REQUESTS, timed
from memory_worker.store.failures import store_error

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Answer_co = TypeVar("_Answer_co", covariant=True)


class _Stub(Protocol[_Request_contra, _Answer_co]):
    def __call__(self, request: _Request_contra, /, *, timeout: float, metadata: Any) -> Awaitable[_Answer_co]: ...


@dataclass(frozen=True, slots=True)
class Method(Generic[_Request_contra, _Answer_co]):
    """A method of Qdrant, under the name by which it is counted."""

    name: str
    stub: _Stub[_Request_contra, _Answer_co]


class QdrantRpc:
    """The methods of Qdrant that this worker calls."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str | None, timeout_s: float) -> None:
        collections, points, service = (
            cast("Any", stub)(channel) for stub in (q.CollectionsStub, q.PointsStub, q.QdrantStub)
        )
        self._metadata = (("api-key", api_key),) if api_key else ()
        self._timeout_s = timeout_s
        self.health_check: Method[q.HealthCheckRequest, q.HealthCheckReply] = Method(
            "health_check", service.HealthCheck
        )
        self.list_collections: Method[q.ListCollectionsRequest, q.ListCollectionsResponse] = Method(
            "list_collections", collections.List
        )
        self.get_collection: Method[q.GetCollectionInfoRequest, q.GetCollectionInfoResponse] = Method(
            "get_collection", collections.Get
        )
        self.create_collection: Method[q.CreateCollection, q.CollectionOperationResponse] = Method(
            "create_collection", collections.Create
        )
        self.update_collection: Method[q.UpdateCollection, q.CollectionOperationResponse] = Method(
            "update_collection", collections.Update
        )
        self.delete_collection: Method[q.DeleteCollection, q.CollectionOperationResponse] = Method(
            "delete_collection", collections.Delete
        )
        self.create_index: Method[q.CreateFieldIndexCollection, q.PointsOperationResponse] = Method(
            "create_index", points.CreateFieldIndex
        )
        self.update_batch: Method[q.UpdateBatchPoints, q.UpdateBatchResponse] = Method(
            "update_batch", points.UpdateBatch
        )
        self.query: Method[q.QueryPoints, q.QueryResponse] = Method("query", points.Query)
        self.query_batch: Method[q.QueryBatchPoints, q.QueryBatchResponse] = Method("query_batch", points.QueryBatch)
        self.scroll: Method[q.ScrollPoints, q.ScrollResponse] = Method("scroll", points.Scroll)

    async def call(
        self,
        doing: str,
        method: Method[_Request_contra, _Answer_co],
        request: _Request_contra,
        *,
        timeout_s: float | None = None,
    ) -> _Answer_co:
        """Call ``method``; ``doing`` says in an error what was asked.

        Raises `StoreRefused` when the request is to blame, `StoreUnavailable` for everything else.
        """
        deadline_s = self._timeout_s if timeout_s is None else timeout_s
        with timed(QDRANT_REQUESTS, method.name) as timing:
            try:
                return await method.stub(request, timeout=deadline_s, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                timing.code = error.code().name
                raise store_error(doing, error) from error
