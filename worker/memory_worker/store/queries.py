"""Searches of one collection that are asked for at once: one request for all, and one for each where that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from qdrant_client import grpc as q

from memory_worker.coalesce import Coalescer
from memory_worker.contract.errors import AnswerTooLarge, StoreError, StoreUnavailable
from memory_worker.store.rpc import QdrantRpc

MOST_COALESCED = 16
"""Searches in one request, at most: none should wait for many others to be done."""

_LEAST_TIME_S = 0.001
_WIDENS_AFTER = 64


class Query(NamedTuple):
    """A search, until when it must be answered (monotonic), and whether its collection may not exist."""

    request: q.QueryPoints
    deadline: float
    may_be_absent: bool

    @property
    def name(self) -> str:
        """The collection."""
        return self.request.collection_name


class Answer(NamedTuple):
    """What a search found, and how long the engine took."""

    points: Sequence[q.ScoredPoint]
    engine_s: float


_NOTHING = Answer((), 0.0)


class Queries:
    """Asks one Qdrant. A search fails only when it has failed by itself, but for a Qdrant that cannot be reached."""

    def __init__(self, rpc: QdrantRpc) -> None:
        self._rpc = rpc
        self._widths = _Widths()
        self._joiner = Coalescer(self._ask_all, max_items=MOST_COALESCED, key=lambda query: query.name)

    async def ask(self, query: Query) -> Answer:
        """Return what a search finds; raises `AnswerTooLarge` for more than this connection takes."""
        return await self._joiner.do(query)

    async def ask_alone(self, query: Query) -> Answer:
        """Return what a search finds, asked in a request of its own."""
        [answer] = await self._ask_group([query])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _ask_one(self, query: Query) -> Answer:
        timeout_s = query.deadline - time.monotonic()
        answer = await self._rpc.call(
            f"searching {query.name}", self._rpc.query, query.request, timeout_s=max(timeout_s, _LEAST_TIME_S)
        )
        return Answer(answer.result, answer.time)

    async def _ask_all(self, queries: list[Query]) -> Sequence[Answer | Exception]:
        width = self._widths.of(queries[0].name)
        if len(queries) <= width:
            return await self._ask_group(queries)
        groups = [queries[first : first + width] for first in range(0, len(queries), width)]
        answers = await asyncio.gather(*map(self._ask_group, groups))
        return [answer for group in answers for answer in group]

    async def _ask_group(self, queries: list[Query]) -> Sequence[Answer | Exception]:
        name = queries[0].name
        try:
            answers = await self._ask_together(queries)
        except StoreError as error:
            if isinstance(error, AnswerTooLarge):
                self._widths.narrow(name, len(queries))
            elif queries[0].may_be_absent and await self._is_absent(error, queries):
                return [_NOTHING] * len(queries)
            if len(queries) == 1 or _never_sent(error):
                return [error] * len(queries)
        else:
            self._widths.widen(name)
            return answers
        return await asyncio.gather(*map(self._answer_or_error, queries))

    async def _ask_together(self, queries: list[Query]) -> Sequence[Answer]:
        if len(queries) == 1:
            return [await self._ask_one(queries[0])]
        name = queries[0].name
        request = q.QueryBatchPoints(collection_name=name, query_points=[query.request for query in queries])
        timeout_s = max(_left_s(queries), _LEAST_TIME_S)
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
    """Say whether a read failed because its collection is known not to exist.

    A NOT_FOUND alone does not say so: it may speak of a shard, or come from something in between.
    """
    if not isinstance(error, StoreUnavailable) or error.code != "NOT_FOUND" or timeout_s < _LEAST_TIME_S:
        return False
    request = q.CollectionExistsRequest(collection_name=name)
    try:
        answer = await rpc.call(f"looking for {name}", rpc.collection_exists, request, timeout_s=timeout_s)
    except StoreError:
        return False
    return answer.HasField("result") and not answer.result.exists


def _left_s(queries: Sequence[Query]) -> float:
    return max(query.deadline for query in queries) - time.monotonic()


def _never_sent(error: StoreError) -> bool:
    """Say whether there was no connection: asking again, and for each, would only add to the load."""
    return isinstance(error, StoreUnavailable) and error.code == "UNAVAILABLE" and not error.in_doubt


class _Widths:
    """How many searches of a collection go into one request, so that its answer is not too large to be taken."""

    def __init__(self) -> None:
        self._narrow: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> int:
        return self._narrow.get(name, (MOST_COALESCED, 0))[0]

    def narrow(self, name: str, width: int) -> None:
        """Halve it: that many were too many. One that is too large by itself says nothing of the others."""
        if width > 1:
            self._narrow[name] = (width // 2, 0)

    def widen(self, name: str) -> None:
        """Count a success; double it after many of them."""
        if name in self._narrow:
            width, successes = self._narrow.pop(name)
            if successes < _WIDENS_AFTER:
                self._narrow[name] = (width, successes + 1)
            elif 2 * width < MOST_COALESCED:
                self._narrow[name] = (2 * width, 0)
