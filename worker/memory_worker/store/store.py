"""The vector store: batches in, searches and reads out. It never knows which engine answers."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from qdrant_client import grpc as q

from memory_worker.budget import Reservation
from memory_worker.contract import CollectionInfo, Get, Hit, Point, Search
from memory_worker.contract.errors import AnswerTooLarge, CollectionUnfit, StoreRefused, StoreUnavailable
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.collections import Collections
from memory_worker.store.copies import add_newest, best_of_each
from memory_worker.store.indexing import is_held, threshold_of
from memory_worker.store.large import LargeAnswers
from memory_worker.store.operations import CollectionRef, Operation, UpsertPoints
from memory_worker.store.queries import Answer, Queries, Query, is_absent
from memory_worker.store.registry import MemoryRegistry, Registry
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape

_APPLIED = q.UpdateStatus.Completed
_NOT_FOUND = "NOT_FOUND"

_STATUSES = {number: name.lower() for name, number in q.CollectionStatus.items()}


class AnswerLimits(NamedTuple):
    """How large an answer with points may be: ``small_bytes`` at any time, ``most_bytes`` once there is room.

    -1 is no limit.
    """

    small_bytes: int = -1
    most_bytes: int = -1


_ANY_SIZE = AnswerLimits()


class VectorStore:
    """Qdrant, over two gRPC channels. Open it within the event loop that uses it, and close it there.

    ``registry`` knows which collections belong to the deployment; without one, this store alone does.

    What returns points is asked over a channel that takes small answers only. Where the answer is larger, gRPC tells
    how large it is without taking it, and it is asked for again, over the other channel, once there is room for it.
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
        self._most_bytes = answers.most_bytes
        self._timeout_s = timeout_s
        self._channels = [
            open_channel(url, tls_ca_file=tls_ca_file, max_answer_bytes=most)
            for most in (answers.most_bytes, answers.small_bytes)
        ]
        self._rpc, self._small = (
            QdrantRpc(channel, api_key=api_key, timeout_s=timeout_s) for channel in self._channels
        )
        self._large = LargeAnswers()
        self._queries, self._large_queries = Queries(self._small), Queries(self._rpc)
        self.collections = Collections(self._rpc, shape, registry or MemoryRegistry())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channels; calls in flight are cancelled."""
        for channel in self._channels:
            await channel.close()

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

    async def search(
        self, job: Search, *, timeout_s: float, reservation: Reservation | None = None
    ) -> tuple[list[Hit], float]:
        """Return the points nearest to the job's (packed) vector, best first, and the engine's own time in ms.

        Searches of one collection that are asked for at once go as one request, and share its time. Of a point that
        is stored under an older id, too, the better copy counts. A large answer waits until ``reservation`` has room.
        Raises `StoreRefused`, `StoreUnavailable`, `AnswerTooLarge`.
        """
        ref, deadline = CollectionRef(job.kind, job.namespace), time.monotonic() + timeout_s
        request = messages.search(self.collections.name(ref), job, rescored=self.collections.quantized)
        wanted, engine_s = request.limit, 0.0
        while True:
            answer = await self._query(Query(request, deadline, ref.namespace is not None), job.user_id, reservation)
            engine_s += answer.engine_s
            hits = best_of_each(answer.points)
            if len(hits) >= wanted or len(answer.points) < request.limit:
                return hits[:wanted], engine_s * 1000
            request.limit *= 2

    async def _query(self, query: Query, user_id: int, reservation: Reservation | None) -> Answer:
        key = ("query", query.name, user_id, query.request.limit.bit_length())
        if self._large.expects(key):
            await self._make_room(self._most_bytes, reservation)
        else:
            try:
                return await self._queries.ask(query)
            except AnswerTooLarge as error:
                await self._admit(key, error, reservation)
        return await self._large_queries.ask_alone(query)

    async def get(
        self, job: Get, *, timeout_s: float, reservation: Reservation | None = None
    ) -> tuple[list[Point], float]:
        """Return the user's points of these ids, in the order asked for, and the engine's own time in ms.

        Of a point that is stored under an older id, too, the newer copy counts. Else as `search`.
        """
        ref, deadline = CollectionRef(job.kind, job.namespace), time.monotonic() + timeout_s
        request = messages.points_by_id(self.collections.name(ref), job.user_id, job.point_ids)
        found: dict[str, Point] = {}
        engine_s = 0.0
        while True:
            try:
                answer = await self._scroll(request, job.user_id, deadline, reservation)
            except StoreUnavailable as error:
                left_s = deadline - time.monotonic()
                if ref.namespace and await is_absent(self._rpc, request.collection_name, error, timeout_s=left_s):
                    return [], 0.0
                raise
            engine_s += answer.time
            add_newest(found, answer.result)
            if not answer.HasField("next_page_offset"):
                break
            request.offset.CopyFrom(answer.next_page_offset)
        return [found[point_id] for point_id in dict.fromkeys(job.point_ids) if point_id in found], engine_s * 1000

    async def _scroll(
        self, request: q.ScrollPoints, user_id: int, deadline: float, reservation: Reservation | None
    ) -> q.ScrollResponse:
        doing, left_s = f"reading {request.collection_name}", deadline - time.monotonic()
        key = ("scroll", request.collection_name, user_id, request.limit.bit_length())
        if self._large.expects(key):
            await self._make_room(self._most_bytes, reservation)
        else:
            try:
                return await self._small.call(doing, self._small.scroll, request, timeout_s=left_s)
            except AnswerTooLarge as error:
                await self._admit(key, error, reservation)
        return await self._rpc.call(doing, self._rpc.scroll, request, timeout_s=deadline - time.monotonic())

    async def _admit(self, key: Hashable, error: AnswerTooLarge, reservation: Reservation | None) -> None:
        """Wait for room for an answer that is known by its size; raises ``error`` for one that is larger than any."""
        if 0 <= self._most_bytes < error.answer_bytes:
            raise error
        self._large.note(key)
        await self._make_room(error.answer_bytes, reservation)

    async def _make_room(self, size: int, reservation: Reservation | None) -> None:
        if reservation is not None:
            await reservation.replace(size)

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
