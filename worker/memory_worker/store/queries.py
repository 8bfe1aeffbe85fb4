"""Sends simultaneous searches and gets of one collection as one request, and one by one if that request fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from qdrant_client import grpc as q

from memory_worker.coalesce import Coalescer
from memory_worker.contract.errors import AnswerTooLarge, StoreError, StoreUnavailable
from memory_worker.store.rpc import QdrantRpc
from memory_worker.tracing import requesting

MAX_COALESCED = 16
"""The maximum of searches in one request. All of them wait for the slowest."""

_MIN_TIME_S = 0.001
_GROWS_AFTER = 64


class Query(NamedTuple):
    """A search, its deadline (a monotonic time in seconds), and whether its collection may be absent."""

    request: q.QueryPoints
    deadline: float
    may_be_absent: bool

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self.request.collection_name


class Answer(NamedTuple):
    """The points that a search found, and the time of the engine."""

    points: Sequence[q.ScoredPoint]
    engine_s: float


_NOTHING = Answer((), 0.0)


class Queries:
    """Sends searches over one connection. A search fails only if it also fails alone, or if Qdrant is unreachable."""

    def __init__(self, rpc: QdrantRpc) -> None:
        self._rpc = rpc
        self._group_sizes = _GroupSizes()
        self._coalescer = Coalescer(self._ask_all, max_items=MAX_COALESCED, key=lambda query: query.name)

    async def ask(self, query: Query) -> Answer:
        """Return the answer to a search. Raises `AnswerTooLarge` for an answer above the limit of this connection."""
        with requesting("qdrant", "query", query.name):
            return await self._coalescer.do(query)

    async def ask_alone(self, query: Query) -> Answer:
        """Return the answer to a search, which is sent in its own request."""
        with requesting("qdrant", "query", query.name):
            [answer] = await self._ask_group([query])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _ask_one(self, query: Query) -> Answer:
        timeout_s = query.deadline - time.monotonic()
        answer = await self._rpc.call(
            f"searching {query.name}", self._rpc.query, query.request, timeout_s=max(timeout_s, _MIN_TIME_S)
        )
        return Answer(answer.result, answer.time)

    async def _ask_all(self, queries: list[Query]) -> Sequence[Answer | Exception]:
        size = self._group_sizes.of(queries[0].name)
        if len(queries) <= size:
            return await self._ask_group(queries)
        groups = [queries[first : first + size] for first in range(0, len(queries), size)]
        answers = await asyncio.gather(*map(self._ask_group, groups))
        return [answer for group in answers for answer in group]

    async def _ask_group(self, queries: list[Query]) -> Sequence[Answer | Exception]:
        name = queries[0].name
        try:
            answers = await self._ask_together(queries)
        except StoreError as error:
            if isinstance(error, AnswerTooLarge):
                self._group_sizes.shrink(name, len(queries))
            elif queries[0].may_be_absent and await self._is_absent(error, queries):
                return [_NOTHING] * len(queries)
            if len(queries) == 1 or _never_sent(error):
                return [error] * len(queries)
        else:
            self._group_sizes.grow(name)
            return answers
        return await asyncio.gather(*map(self._answer_or_error, queries))

    async def _ask_together(self, queries: list[Query]) -> Sequence[Answer]:
        if len(queries) == 1:
            return [await self._ask_one(queries[0])]
        name = queries[0].name
        request = q.QueryBatchPoints(collection_name=name, query_points=[query.request for query in queries])
        timeout_s = max(_left_s(queries), _MIN_TIME_S)
        answer = await self._rpc.call(f"searching {name}", self._rpc.query_batch, request, timeout_s=timeout_s)
        if len(answer.result) != len(queries):
            raise StoreUnavailable(
                f"searching {name}: {len(queries)} searches, {len(answer.result)} results", code="INCOMPLETE"
            )
        return [Answer(batch.result, answer.time) for batch in answer.result]

    async def _answer_or_error(self, query: Query) -> Answer | Exception:
        try:
            return await self._ask_one(query)
        except StoreError as error:
            return error

    async def _is_absent(self, error: StoreError, queries: Sequence[Query]) -> bool:
        return await is_absent(self._rpc, queries[0].name, error, timeout_s=_left_s(queries))


async def is_absent(rpc: QdrantRpc, name: str, error: StoreError, *, timeout_s: float) -> bool:
    """Say whether a read failed because its collection does not exist.

    This asks Qdrant again, because NOT_FOUND can also concern a shard, or come from a proxy.
    """
    if not isinstance(error, StoreUnavailable) or error.code != "NOT_FOUND" or timeout_s < _MIN_TIME_S:
        return False
    request = q.CollectionExistsRequest(collection_name=name)
    try:
        answer = await rpc.call(f"checking for {name}", rpc.collection_exists, request, timeout_s=timeout_s)
    except StoreError:
        return False
    return answer.HasField("result") and not answer.result.exists


def _left_s(queries: Sequence[Query]) -> float:
    return max(query.deadline for query in queries) - time.monotonic()


def _never_sent(error: StoreError) -> bool:
    """Say whether there was no connection. Then sending each search by itself would only add load."""
    return isinstance(error, StoreUnavailable) and error.code == "UNAVAILABLE" and not error.in_doubt


class _GroupSizes:
    """The number of searches in one request, by collection. It is limited so that the answer is not too large."""

    def __init__(self) -> None:
        self._shrunk: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> int:
        return self._shrunk.get(name, (MAX_COALESCED, 0))[0]

    def shrink(self, name: str, size: int) -> None:
        """Halve the size, because the answer to ``size`` searches was too large. One search alone changes nothing."""
        if size > 1:
            self._shrunk[name] = (size // 2, 0)

    def grow(self, name: str) -> None:
        """Count a success. Double the size after many of them."""
        if name in self._shrunk:
            size, successes = self._shrunk.pop(name)
            if successes < _GROWS_AFTER:
                self._shrunk[name] = (size, successes + 1)
            elif 2 * size < MAX_COALESCED:
                self._shrunk[name] = (2 * size, 0)
