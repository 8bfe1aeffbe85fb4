"""Sends the requests of reads, over the channel that fits their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from qdrant_client import grpc as q

from memory_worker.budget import Reservation
from memory_worker.contract.errors import StoreUnavailable
from memory_worker.contract.kinds import Kind, UserId
from memory_worker.store.collections import Collections
from memory_worker.store.large_answers import LargeAnswers
from memory_worker.store.operations import CollectionRef
from memory_worker.store.queries import Queries, Query, is_absent
from memory_worker.store.rpc import Method, QdrantRpc
from memory_worker.store.selections import Selection

_MIN_TIME_S = 0.001


class AnswerLimits(NamedTuple):
    """The limits of answers with points. Up to ``small_bytes`` they need no room; ``most_bytes`` is the maximum.

    -1 is no limit.
    """

    small_bytes: int = -1
    most_bytes: int = -1


class _Timed(Protocol):
    @property
    def time(self) -> float: ...


_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer", bound=_Timed)
_Result = TypeVar("_Result")


class _Room:
    """The room that the large answers of one read have taken together."""

    def __init__(self, reservation: Reservation | None) -> None:
        self._reservation = reservation
        self._size = 0
        self._growing = asyncio.Lock()

    async def grow(self, size: int) -> None:
        if self._reservation is not None:
            async with self._growing:
                self._size += size
                await self._reservation.replace(self._size)


class Read:
    """One read: its deadline (a monotonic time in seconds), its room for large answers, and Qdrant's time for it."""

    def __init__(self, timeout_s: float, reservation: Reservation | None = None) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.engine_s = 0.0
        self._room = _Room(reservation)

    @property
    def left_s(self) -> float:
        """The seconds until the deadline, but never none."""
        return max(self.deadline - time.monotonic(), _MIN_TIME_S)

    @property
    def engine_ms(self) -> float:
        """The time of Qdrant, in milliseconds."""
        return self.engine_s * 1000

    def hurry(self, share: float) -> None:
        """Move the deadline, so that only this share of the time is left."""
        self.deadline = time.monotonic() + share * self.left_s

    async def make_room(self, size: int) -> None:
        """Wait until there is room for ``size`` more bytes.

        The room that this read has is released and taken again, so that two reads never wait for each other.
        """
        await self._room.grow(size)

    async def together(self, parts: Iterable[Callable[[Read], Coroutine[Any, Any, _Result]]]) -> list[_Result]:
        """Run parts of this read at the same time, and return their results. Qdrant's time is that of the slowest.

        If one part fails, the others are cancelled.
        """
        reads = [(part, self._part()) for part in parts]
        tasks = [asyncio.create_task(part(read)) for part, read in reads]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        self.engine_s += max((read.engine_s for _, read in reads), default=0.0)
        return results

    def _part(self) -> Read:
        part = Read(0)
        part.deadline, part._room = self.deadline, self._room
        return part


class Reader:
    """Sends the requests of reads. An answer that is too large for one channel is asked for again over the other.

    The first channel, ``small``, accepts only small answers. If an answer is larger, gRPC reports its size without
    receiving it. Then the request is sent again over ``large``, once there is room for the answer.
    """

    def __init__(self, small: QdrantRpc, large: QdrantRpc, collections: Collections, limits: AnswerLimits) -> None:
        self.collections = collections
        self.limits = limits
        self._small, self._large = small, large
        self._answers = LargeAnswers(limits.most_bytes)
        self._queries, self._large_queries = Queries(small), Queries(large)

    def name(self, ref: CollectionRef) -> str:
        """Return the name of a collection in Qdrant."""
        return self.collections.name(ref)

    def kind(self, ref: CollectionRef) -> Kind:
        """Return the kind of the points of a collection."""
        return self.collections.kinds[ref.kind]

    async def query(
        self, ref: CollectionRef, request: q.QueryPoints, user_id: UserId, read: Read
    ) -> Sequence[q.ScoredPoint]:
        """Return the points that a search finds, best first; none if its namespace does not exist.

        Simultaneous searches of one collection are sent as one request, and report its time.
        """
        query = Query(request, read.deadline, ref.namespace is not None)
        key = ("query", query.name, user_id, request.HasField("query"), request.limit.bit_length())
        small, large = partial(self._queries.ask, query), partial(self._large_queries.ask_alone, query)
        answer = await self._answers.ask(key, small, large, read.make_room)
        read.engine_s += answer.engine_s
        return answer.points

    async def scroll(
        self, ref: CollectionRef, request: q.ScrollPoints, user_id: UserId | None, read: Read
    ) -> q.ScrollResponse:
        """Return a page of points; an empty one if the namespace does not exist."""
        key = ("scroll", request.collection_name, user_id, request.limit.bit_length())
        return await self._ask(ref, key, lambda rpc: rpc.scroll, request, read) or q.ScrollResponse()

    async def scroll_small(self, ref: CollectionRef, request: q.ScrollPoints, read: Read) -> q.ScrollResponse:
        """As `scroll`, but raises `AnswerTooLarge` for an answer that needs room."""
        return await self._ask(ref, None, lambda rpc: rpc.scroll, request, read) or q.ScrollResponse()

    async def count(self, selection: Selection, read: Read) -> int:
        """Return how many points are selected, exactly; 0 if the namespace does not exist."""
        request = q.CountPoints(collection_name=self.name(selection.ref), filter=selection.filter, exact=True)
        key = ("count", request.collection_name)
        answer = await self._ask(selection.ref, key, lambda rpc: rpc.count, request, read)
        return answer.result.count if answer is not None else 0

    async def facet(
        self, field: str, selection: Selection, limit: int, read: Read
    ) -> list[tuple[str | int | bool, int]]:
        """Return the values of a field with the numbers of selected points, the most frequent first.

        There are none if the namespace does not exist.
        """
        name = self.name(selection.ref)
        request = q.FacetCounts(collection_name=name, key=field, filter=selection.filter, limit=limit, exact=True)
        key = ("facet", name, field, selection.user_id, limit.bit_length())
        answer = await self._ask(selection.ref, key, lambda rpc: rpc.facet, request, read)
        # Qdrant may name values that no point has any more.
        hits = [] if answer is None else [hit for hit in answer.hits if hit.count]
        return [(getattr(hit.value, hit.value.WhichOneof("variant") or ""), hit.count) for hit in hits]

    async def _ask(
        self,
        ref: CollectionRef,
        key: tuple[object, ...] | None,
        method: Callable[[QdrantRpc], Method[_Request, _Answer]],
        request: _Request,
        read: Read,
    ) -> _Answer | None:
        """Return the answer, or ``None`` if the namespace does not exist.

        ``key`` identifies similar reads. Without one, only a small answer is received.
        """

        def ask(rpc: QdrantRpc) -> Awaitable[_Answer]:
            return rpc.call(f"reading {self.name(ref)}", method(rpc), request, timeout_s=read.left_s)

        small, large = partial(ask, self._small), partial(ask, self._large)
        try:
            answer = await (self._answers.ask(key, small, large, read.make_room) if key else small())
        except StoreUnavailable as error:
            if await self._is_absent(ref, error, read):
                return None
            raise
        read.engine_s += answer.time
        return answer

    async def _is_absent(self, ref: CollectionRef, error: StoreUnavailable, read: Read) -> bool:
        """Say whether a read failed because its namespace does not exist. A base collection must exist."""
        if ref.namespace is None:
            return False
        return await is_absent(self._large, self.name(ref), error, timeout_s=read.left_s)
