"""The vector store: it applies batches, and answers searches and reads. It works alike with every engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from qdrant_client import grpc as q

from memory_worker.budget import Reservation
from memory_worker.contract import CollectionInfo, Get, Hit, Point, Search
from memory_worker.contract.errors import CollectionUnfit, StoreRefused, StoreUnavailable
from memory_worker.contract.kinds import UserId
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.collections import Collections
from memory_worker.store.facets import Facets
from memory_worker.store.indexing import is_held, threshold_of
from memory_worker.store.listing import Listing
from memory_worker.store.operations import CollectionRef, Operation, UpsertPoints
from memory_worker.store.points import PointsById
from memory_worker.store.reader import AnswerLimits, Read, Reader
from memory_worker.store.registry import MemoryRegistry, Registry
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.searches import Searches
from memory_worker.store.shape import CollectionShape
from memory_worker.store.stored_points import StoredPoints

_APPLIED = q.UpdateStatus.Completed
_NOT_FOUND = "NOT_FOUND"

_STATUSES = {number: name.lower() for name, number in q.CollectionStatus.items()}


_ANY_SIZE = AnswerLimits()


class VectorStore:
    """Qdrant, over two gRPC channels. Open and close it in the event loop that uses it.

    ``registry`` names the collections of the deployment. Without one, the registry is in memory.

    ``searches``, ``points``, ``listing`` and ``facets`` answer the reads of users. `Reader` describes how they use the
    two channels.
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
        answers: AnswerLimits = _ANY_SIZE,
    ) -> None:
        self._timeout_s = timeout_s
        self._channels = [
            open_channel(url, tls_ca_file=tls_ca_file, max_answer_bytes=most)
            for most in (answers.most_bytes, answers.small_bytes)
        ]
        self._rpc, small = (QdrantRpc(channel, api_key=api_key, timeout_s=timeout_s) for channel in self._channels)
        self.collections = Collections(self._rpc, shape, registry or MemoryRegistry())
        reader = Reader(small, self._rpc, self.collections, answers)
        self.searches, self.points = Searches(reader), PointsById(reader)
        self.listing, self.facets = Listing(reader), Facets(reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channels. Running calls are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def version(self) -> str:
        """Return the engine's version. Raises `StoreUnavailable` if it is not reachable."""
        answer = await self._rpc.call("health check", self._rpc.health_check, q.HealthCheckRequest())
        return answer.version

    async def prepare(self) -> None:
        """Restore the registry of collections, and create and check the base collections."""
        await self.collections.prepare()

    async def make_ready(self, ref: CollectionRef, operations: Sequence[Operation]) -> bool:
        """Create the collection if ``operations`` write points; register it otherwise.

        Return ``False`` if it does not exist and the operations only delete. Do this before the deadline is computed,
        because creating a collection may take longer than a write. Raises `CollectionUnfit` for a namespace that
        cannot store the operations, `ConfigurationError` for such a base collection.
        """
        if any(isinstance(operation, UpsertPoints) for operation in operations):
            await self.collections.ensure(ref)
            return True
        return await self.collections.adopt(ref)

    async def apply(self, ref: CollectionRef, operations: Sequence[Operation], *, timeout_s: float) -> None:
        """Call `make_ready` and `send`, within ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        if await self.make_ready(ref, operations):
            await self.send(ref, operations, deadline=deadline)

    async def send(self, ref: CollectionRef, operations: Sequence[Operation], *, deadline: float) -> None:
        """Apply operations in order, in one request, to a collection that is ready. Otherwise as `send_request`."""
        await self.send_request(ref, self.request_for(ref, operations), deadline=deadline)

    def request_for(self, ref: CollectionRef, operations: Sequence[Operation]) -> messages.WriteRequest:
        """Return the serialized request that applies operations in order to a collection that is ready."""
        return messages.update_batch(
            self.collections.name(ref),
            operations,
            tenants=self.collections.has_tenant_field(ref),
            integer_ids=self.collections.may_have_integer_ids(ref),
        )

    async def send_request(self, ref: CollectionRef, request: messages.WriteRequest, *, deadline: float) -> None:
        """Send a batch of writes to a collection that is ready. Return once all of them are applied.

        The request is not atomic: if an operation fails, earlier ones are applied. It is safe to apply all of them
        again. ``deadline`` is a monotonic time in seconds. Raises `StoreRefused` if Qdrant refuses the request,
        `DeadlinePassed` if it was too late to send it, `StoreUnavailable` otherwise.
        """
        name = request.collection
        try:
            answer = await self._rpc.write("writing to", name, request.body, deadline=deadline)
        except StoreRefused:
            self.collections.forget(ref)  # it may have lost an index that a filter needs
            raise
        except StoreUnavailable as error:
            if error.code == _NOT_FOUND:
                self.collections.forget(ref)
            raise
        _check_applied(request, answer)

    def stored_points(self, ref: CollectionRef) -> StoredPoints:
        """Return the points of a collection as they are stored, of all users. Only repairs need them."""
        return StoredPoints(self._rpc, self.collections.name(ref))

    async def probe(self, ref: CollectionRef) -> None:
        """Write and remove a point that belongs to no user. Raises `StoreError` unless Qdrant accepts writes.

        A namespace that cannot store our vectors only gets deletes, so only a delete is tried.
        """
        name = self.collections.name(ref)
        try:
            await self.collections.ensure(ref)
            dimension = self.collections.dimension_of(ref)
            request = messages.probe(
                name, dimension, user_id=self._nobody(ref), tenants=self.collections.has_tenant_field(ref)
            )
        except CollectionUnfit:
            request = messages.probe_of_deletes(name, user_id=self._nobody(ref))
        deadline = time.monotonic() + self._timeout_s
        answer = await self._rpc.write("probing", name, request.body, deadline=deadline)
        _check_applied(request, answer)

    def _nobody(self, ref: CollectionRef) -> UserId:
        """Return a user id that nobody has."""
        return messages.NOBODY if self.collections.kinds[ref.kind].user_ids == "integer" else str(messages.NOBODY)

    async def search(
        self, job: Search, *, timeout_s: float, reservation: Reservation | None = None
    ) -> tuple[list[Hit], float]:
        """As `Searches.search`; also return Qdrant's time in milliseconds.

        A large answer waits until ``reservation`` has room for it.
        """
        read = Read(timeout_s, reservation)
        return await self.searches.search(job, read), read.engine_ms

    async def get(
        self, job: Get, *, timeout_s: float, reservation: Reservation | None = None
    ) -> tuple[list[Point], float]:
        """As `PointsById.get`; otherwise as `search`."""
        read = Read(timeout_s, reservation)
        return await self.points.get(job, read), read.engine_ms

    async def info(self) -> list[CollectionInfo]:
        """Describe all collections of this deployment that exist."""
        version, described = await self.version(), []
        for ref in await self.collections.existing():
            info = await self.collections.describe(ref)
            if info is not None:
                described.append(_described(self.collections.name(ref), ref, info, version))
        return described


def _check_applied(request: messages.WriteRequest, answer: q.UpdateBatchResponse) -> None:
    """Check that all operations are COMPLETED: Qdrant also reports success for ACKNOWLEDGED and WAIT_TIMEOUT."""
    name, statuses = request.collection, [result.status for result in answer.result]
    if len(statuses) != request.operations:
        raise StoreUnavailable(
            f"writing to {name}: {request.operations} operations, {len(statuses)} results", code="INCOMPLETE"
        )
    for position, status in enumerate(statuses):
        if status != _APPLIED:
            label = q.UpdateStatus.Name(status)
            raise StoreUnavailable(f"writing to {name}: operation {position} ended {label}", code=label)


def _described(name: str, ref: CollectionRef, info: q.CollectionInfo, version: str) -> CollectionInfo:
    params = info.config.params.vectors_config.params
    return CollectionInfo(
        name=name,
        kind=ref.kind,
        namespace=ref.namespace,
        status=_STATUSES.get(info.status, "unknown"),
        points=info.points_count,
        indexed_vectors=info.indexed_vectors_count,
        segments=info.segments_count,
        dimension=params.size,
        payload_indexes=sorted(info.payload_schema),
        indexing_held=is_held(threshold_of(info)),
        distance=q.Distance.Name(params.distance).lower(),
        engine_version=version,
    )
