"""What an app calls of us, to be measured."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from memory_worker.bench import names
from memory_worker.bench.figures import Figure
from memory_worker.bench.load import Load
from memory_worker.bench.loops import Check, Tally, open_loop
from memory_worker.bench.tasks import OnCalls, Path, Task, looped
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.client.producer import PUSH_MAX_JOBS
from memory_worker.contract import Get, Receipt
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.runtime.wiring import open_client, open_store
from memory_worker.settings import Settings
from memory_worker.store.store import VectorStore

FLOOD = "flood"
LEAST_SCORE = -1.0
"""Every point of the user is a hit: a search that finds nothing would be no measure."""

_APPLIED_TIMEOUT_S = 60.0
_LOOK_UP_EVERY = 5
_FLOOD_TICK_S = 0.01
_BULK = 8 * PUSH_MAX_JOBS


@asynccontextmanager
async def own_paths(settings: Settings, load: Load) -> AsyncIterator[dict[str, Path]]:
    """Yield what can be measured through the queue of these settings."""
    async with open_client(settings) as queue, open_store(settings) as store:
        yield _OwnCalls(queue, store, load, settings.qdrant_timeout_s).paths()


class _OwnCalls:
    """Calls of the client. What it takes to make the arguments is not timed."""

    def __init__(self, queue: MemoryQueue, store: VectorStore, load: Load, timeout_s: float) -> None:
        self._queue = queue
        self._store = store
        self._load = load
        self._timeout_s = timeout_s

    def paths(self) -> dict[str, Path]:
        """Return all of them by name."""
        load = self._load
        return {
            names.PUSH: looped(self._push, load.arguments),
            names.VISIBLE: looped(self._visible, lambda number: (number, load.arguments(number))),
            names.DELETE: looped(self._delete, self._id),
            names.DELETED: looped(self._deleted, self._id),
            names.SEARCH: looped(self._search, self._query),
            names.GET: looped(self._get, lambda number: self._id(load.asked(number))),
            names.BULK: self._bulk,
            FLOOD: self._flood,
        }

    async def _push(self, point: dict[str, Any]) -> None:
        await self._queue.upsert(**point)

    async def _visible(self, numbered: tuple[int, dict[str, Any]]) -> Check | None:
        number, point = numbered
        receipt = await self._queue.upsert(**point)
        await self._applied(receipt)
        if number % _LOOK_UP_EVERY:
            return None
        return lambda: self._look_up(point["user_id"], point["point_id"])

    async def _look_up(self, user_id: int, point_id: str) -> None:
        """Look whether the engine really has what is said to be applied."""
        found, _ = await self._store.get(Get(user_id=user_id, point_ids=[point_id]), timeout_s=self._timeout_s)
        if not found:
            raise MemoryWorkerError("a write that was said to be applied is not there")

    def _id(self, number: int) -> dict[str, Any]:
        return {"user_id": self._load.user(number), "point_id": self._load.point_id(number)}

    async def _delete(self, point: dict[str, Any]) -> None:
        await self._queue.delete(**point)

    async def _deleted(self, point: dict[str, Any]) -> None:
        await self._applied(await self._queue.delete(**point))

    async def _applied(self, receipt: Receipt) -> None:
        await self._queue.wait_applied(receipt, timeout=_APPLIED_TIMEOUT_S)

    def _query(self, number: int) -> dict[str, Any]:
        asked = self._load.asked(number)
        return {
            "query": {"user_id": self._load.user(asked), "vector": self._load.numbers(asked)},
            "hits": self._load.findable(asked),
        }

    async def _search(self, asked: dict[str, Any]) -> None:
        hits = await self._queue.search(**asked["query"], min_score=LEAST_SCORE)
        check_found(len(hits), asked["hits"])

    async def _get(self, point: dict[str, Any]) -> None:
        points = await self._queue.get(user_id=point["user_id"], point_ids=[point["point_id"]])
        check_found(len(points), 1)

    async def _bulk(self, task: Task, on_calls: OnCalls) -> Figure:
        """Push everything with as few calls as are sensible."""
        started = time.perf_counter()
        for first in range(task.first, task.first + task.count, _BULK):
            numbers = range(first, min(first + _BULK, task.first + task.count))
            await self._queue.upsert_many([self._load.arguments(number) for number in numbers])
            on_calls(len(numbers))
        took_s = time.perf_counter() - started
        return Figure(loop="total", calls=task.count, sent=task.count, took_s=took_s, rate=task.count / took_s)

    async def _flood(self, task: Task, on_calls: OnCalls) -> Figure:
        """Push ``rate`` writes a second, whatever happens, in a group each tick: the load while others are measured."""
        group = min(task.count, max(1, round(task.rate * _FLOOD_TICK_S)))

        async def push(jobs: list[Any]) -> None:
            await self._queue.upsert_many(jobs)
            on_calls(len(jobs))

        def jobs_of(tick: int) -> list[Any]:
            return list(self._load.writes(task.first + tick * group, group))

        found = await open_loop(
            Tally(push, jobs_of, lambda: None), first=0, count=task.count // group, rate=task.rate / group
        )
        calls, sent = found.calls * group, found.sent * group
        return Figure(
            loop="open",
            calls=calls,
            sent=sent,
            took_s=found.took_s,
            rate=calls / found.took_s,
            asked_rate=task.rate,
            errors=found.errors,
        )


def check_found(found: int, expected: int) -> None:
    """Raise `MemoryWorkerError` for an answer that is shorter than it must be: a fast wrong answer is none."""
    if found < expected:
        raise MemoryWorkerError(f"found {found} of {expected}")
