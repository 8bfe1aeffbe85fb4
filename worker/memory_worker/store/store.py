"""The vector store: batches in, searches and reads out. It never knows which engine answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from qdrant_client import grpc as q

from memory_worker.contract import CollectionInfo, Get, Hit, Point, Search
from memory_worker.errors import CollectionUnfit, StoreError, StoreRefused, StoreUnavailable
from memory_worker.join import Joiner
from memory_worker.kinds import POINT_ID_FIELD
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.collections import Collections
from memory_worker.store.indexing import is_held, threshold_of
from memory_worker.store.operations import CollectionRef, Operation, UpsertPoints
from memory_worker.store.registry import MemoryRegistry, Registry
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape
from memory_worker.store.values import payload_of

_APPLIED = q.UpdateStatus.Completed
_NOT_FOUND = "NOT_FOUND"

MOST_JOINED = 16
"""Searches in one request, at most: none should wait for many others to be done."""


_STATUSES = {number: name.lower() for name, number in q.CollectionStatus.items()}


class _Query(NamedTuple):
    request: q.QueryPoints
    timeout_s: float


class _Answer(NamedTuple):
    points: Sequence[q.ScoredPoint]
    engine_s: float


class VectorStore:
    """Qdrant, over one gRPC channel. Open it within the event loop that uses it, and close it there.

    ``registry`` knows which collections belong to the deployment; without one, this store alone does.
    """

    def __init__(
        self,
        url: str,
        shape: CollectionShape,
        *,
        registry: Registry | None = None,
        api_key: str | None = None,
        tls_ca_file: Path | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._channel = open_channel(url, tls_ca_file=tls_ca_file)
        self._timeout_s = timeout_s
        self._rpc = QdrantRpc(self._channel, api_key=api_key, timeout_s=timeout_s)
        self._queries = Joiner(self._query, most=MOST_JOINED, key=lambda query: query.request.collection_name)
        self.collections = Collections(self._rpc, shape, registry or MemoryRegistry())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def version(self) -> str:
        """Return the engine's version, which shows that it is reachable; raises `StoreUnavailable`."""
        answer = await self._rpc.call("health check", self._rpc.health_check, q.HealthCheckRequest())
        return answer.version

    async def prepare(self) -> None:
        """Restore the registry of collections; make and check the collections that every installation has."""
        await self.collections.prepare()

    async def make_ready(self, ref: CollectionRef, operations: Sequence[Operation]) -> bool:
        """Make sure that the collection takes ``operations``; ``False``: it is not there, and they delete only.

        Making a collection may take longer than a write, so it is best done before a deadline is reckoned. Raises
        `CollectionUnfit` for a namespace that can never take them, `ConfigurationError` for such a base collection.
        """
        if any(isinstance(operation, UpsertPoints) for operation in operations):
            await self.collections.ensure(ref)
            return True
        return await self.collections.adopt(ref)

    async def apply(self, ref: CollectionRef, operations: Sequence[Operation], *, timeout_s: float) -> None:
        """Make the collection ready, and apply operations as `send` does, within ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        if await self.make_ready(ref, operations):
            await self.send(ref, operations, deadline=deadline)

    async def send(self, ref: CollectionRef, operations: Sequence[Operation], *, deadline: float) -> None:
        """Apply operations in order, in one request, to a collection that is ready; return when all are applied.

        It is not atomic: when an operation fails, those before it are applied. Applying all of them again does no
        harm. ``deadline`` is a monotonic time in seconds. Raises `StoreRefused` when Qdrant refuses the request,
        `DeadlinePassed` when it was too late to send it, `StoreUnavailable` for everything else.
        """
        name = self.collections.name(ref)
        request = messages.update_batch(name, operations, tenants=self.collections.tenants)
        try:
            answer = await self._rpc.write(f"writing to {name}", request, deadline=deadline)
        except StoreRefused:
            self.collections.forget(ref)  # it may have lost an index that a filter needs
            raise
        except StoreUnavailable as error:
            if error.code == _NOT_FOUND:
                self.collections.forget(ref)
            raise
        _check_applied(name, request, answer)

    async def probe(self, ref: CollectionRef) -> None:
        """Write and remove a point that belongs to nobody: raises `StoreError` unless Qdrant takes writes.

        To a namespace that takes no vectors of ours only deletes are sent, so one is tried there.
        """
        name = self.collections.name(ref)
        try:
            await self.collections.ensure(ref)
            request = messages.probe(name, self.collections.dimension, tenants=self.collections.tenants)
        except CollectionUnfit:
            request = messages.probe_of_deletes(name)
        deadline = time.monotonic() + self._timeout_s
        answer = await self._rpc.write(f"probing {name}", request, deadline=deadline)
        _check_applied(name, request, answer)

    async def search(self, job: Search, *, timeout_s: float) -> tuple[list[Hit], float]:
        """Return the points nearest to the job's (packed) vector, best first, and the engine's own time in ms.

        Searches of one collection that are asked for at once go as one request, and share its time.
        """
        ref = CollectionRef(job.kind, job.namespace)
        request = messages.search(self.collections.name(ref), job, rescored=self.collections.quantized)
        try:
            answer = await self._queries.do(_Query(request, timeout_s))
        except StoreUnavailable as error:
            if _is_unused_namespace(ref, error):
                return [], 0.0
            raise
        hits = []
        for found in answer.points:
            payload = payload_of(found.payload)
            hits.append(Hit(_logical_id(payload, found.id), found.score, payload))
        return hits, answer.engine_s * 1000

    async def _query(self, queries: list[_Query]) -> Sequence[_Answer | Exception]:
        if len(queries) == 1:
            return [await self._query_alone(queries[0])]
        name = queries[0].request.collection_name
        request = q.QueryBatchPoints(collection_name=name, query_points=[query.request for query in queries])
        timeout_s = max(query.timeout_s for query in queries)
        try:
            answer = await self._rpc.call(f"searching {name}", self._rpc.query_batch, request, timeout_s=timeout_s)
        except StoreRefused:  # one bad query is no reason to refuse the others
            return await asyncio.gather(*map(self._query_or_error, queries))
        if len(answer.result) != len(queries):
            raise StoreUnavailable(
                f"searching {name}: {len(queries)} searches, {len(answer.result)} results", code="INCOMPLETE"
            )
        return [_Answer(batch.result, answer.time) for batch in answer.result]

    async def _query_or_error(self, query: _Query) -> _Answer | Exception:
        try:
            return await self._query_alone(query)
        except StoreError as error:
            return error

    async def _query_alone(self, query: _Query) -> _Answer:
        name = query.request.collection_name
        answer = await self._rpc.call(f"searching {name}", self._rpc.query, query.request, timeout_s=query.timeout_s)
        return _Answer(answer.result, answer.time)

    async def get(self, job: Get, *, timeout_s: float) -> tuple[list[Point], float]:
        """Return the user's points of these ids, in the order asked for, and the engine's own time in ms."""
        ref = CollectionRef(job.kind, job.namespace)
        request = messages.points_by_id(self.collections.name(ref), job.user_id, job.point_ids)
        try:
            answer = await self._rpc.call(
                f"reading {request.collection_name}", self._rpc.scroll, request, timeout_s=timeout_s
            )
        except StoreUnavailable as error:
            if _is_unused_namespace(ref, error):
                return [], 0.0
            raise
        payloads = [payload_of(found.payload) for found in answer.result]
        by_id = {payload[POINT_ID_FIELD]: payload for payload in payloads}
        points = [Point(point_id, by_id[point_id]) for point_id in dict.fromkeys(job.point_ids) if point_id in by_id]
        return points, answer.time * 1000

    async def info(self) -> list[CollectionInfo]:
        """Describe all collections of this deployment that exist."""
        described = []
        for ref in await self.collections.existing():
            info = await self.collections.describe(ref)
            if info is not None:
                described.append(_described(self.collections.name(ref), ref, info))
        return described


def _check_applied(name: str, request: q.UpdateBatchPoints, answer: q.UpdateBatchResponse) -> None:
    """Only COMPLETED counts: ACKNOWLEDGED and WAIT_TIMEOUT come back as success too."""
    statuses = [result.status for result in answer.result]
    if len(statuses) != len(request.operations):
        raise StoreUnavailable(
            f"writing to {name}: {len(request.operations)} operations, {len(statuses)} results", code="INCOMPLETE"
        )
    for position, status in enumerate(statuses):
        if status != _APPLIED:
            label = q.UpdateStatus.Name(status)
            raise StoreUnavailable(f"writing to {name}: operation {position} ended {label}", code=label)


def _is_unused_namespace(ref: CollectionRef, error: StoreUnavailable) -> bool:
    """A namespace gets its collection with its first memory; until then it is empty, not broken."""
    return error.code == _NOT_FOUND and ref.namespace is not None


def _logical_id(payload: dict[str, object], primary: q.PointId) -> str:
    return str(payload.get(POINT_ID_FIELD) or primary.uuid or primary.num)


def _described(name: str, ref: CollectionRef, info: q.CollectionInfo) -> CollectionInfo:
    return CollectionInfo(
        name=name,
        kind=ref.kind,
        namespace=ref.namespace,
        status=_STATUSES.get(info.status, "unknown"),
        points=info.points_count,
        indexed_vectors=info.indexed_vectors_count,
        segments=info.segments_count,
        dimension=info.config.params.vectors_config.params.size,
        payload_indexes=sorted(info.payload_schema),
        indexing_held=is_held(threshold_of(info)),
    )
