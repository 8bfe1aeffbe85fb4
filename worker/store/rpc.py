"""Calls to Qdrant: the stubs, the credentials and the deadline, with failures turned into this project's errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

import grpc
from qdrant_client import grpc as q

from worker.store.failures import store_error

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Answer_co = TypeVar("_Answer_co", covariant=True)


class _Method(Protocol[_Request_contra, _Answer_co]):
    def __call__(self, request: _Request_contra, /, *, timeout: float, metadata: Any) -> Awaitable[_Answer_co]: ...


class QdrantRpc:
    """The methods of Qdrant that this worker calls."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str | None, timeout_s: float) -> None:
        collections, points, service = (
            cast("Any", stub)(channel) for stub in (q.CollectionsStub, q.PointsStub, q.QdrantStub)
        )
        self._metadata = (("api-key", api_key),) if api_key else ()
        self._timeout_s = timeout_s
        self.health_check: _Method[q.HealthCheckRequest, q.HealthCheckReply] = service.HealthCheck
        self.list_collections: _Method[q.ListCollectionsRequest, q.ListCollectionsResponse] = collections.List
        self.get_collection: _Method[q.GetCollectionInfoRequest, q.GetCollectionInfoResponse] = collections.Get
        self.create_collection: _Method[q.CreateCollection, q.CollectionOperationResponse] = collections.Create
        self.delete_collection: _Method[q.DeleteCollection, q.CollectionOperationResponse] = collections.Delete
        self.create_index: _Method[q.CreateFieldIndexCollection, q.PointsOperationResponse] = points.CreateFieldIndex
        self.update_batch: _Method[q.UpdateBatchPoints, q.UpdateBatchResponse] = points.UpdateBatch
        self.query: _Method[q.QueryPoints, q.QueryResponse] = points.Query
        self.scroll: _Method[q.ScrollPoints, q.ScrollResponse] = points.Scroll

    async def call(
        self,
        doing: str,
        method: Callable[..., Awaitable[_Answer_co]] | _Method[_Request_contra, _Answer_co],
        request: _Request_contra,
        *,
        timeout_s: float | None = None,
    ) -> _Answer_co:
        """Call ``method``; ``doing`` says in an error what was asked.

        Raises `StoreRefused` when the request is to blame, `StoreUnavailable` for everything else.
        """
        deadline_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            return await method(request, timeout=deadline_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise store_error(doing, error) from error
