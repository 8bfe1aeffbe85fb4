"""Combine requests that are made at about the same time into one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Request: TypeAlias = "tuple[_Item, asyncio.Future[_Result]]"


class Coalescer(Generic[_Item, _Result]):
    """Processes items together if they have the same ``key`` and arrive within one turn of the event loop.

    ``work`` takes up to ``max_items`` items. It returns a result or an error for each, in their order. If it raises,
    all of the items fail with that error. It is cancelled once all callers that wait for it are cancelled.

    An item never waits for others to arrive. An item that arrives alone is processed alone.
    """

    def __init__(
        self,
        work: Callable[[list[_Item]], Awaitable[Sequence[_Result | Exception]]],
        *,
        max_items: int,
        key: Callable[[_Item], object] = lambda _: None,
    ) -> None:
        self._work = work
        self._max_items = max_items
        self._key = key
        self._waiting: dict[object, list[_Request[_Item, _Result]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, item: _Item) -> _Result:
        """Process one item, possibly together with others, and return its result."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Result] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.setdefault(self._key(item), []).append((item, done))
        return await done

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for same_key in waiting.values():
            for first in range(0, len(same_key), self._max_items):
                requests = same_key[first : first + self._max_items]
                task = asyncio.create_task(self._run(requests))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                _cancel_with_callers(task, [done for _, done in requests])

    async def _run(self, requests: list[_Request[_Item, _Result]]) -> None:
        results: Sequence[_Result | Exception]
        try:
            results = await self._work([item for item, _ in requests])
            if len(results) != len(requests):
                raise RuntimeError(f"{len(requests)} items, {len(results)} results")
        except Exception as error:  # noqa: BLE001  # each caller gets it
            results = [error] * len(requests)
        except asyncio.CancelledError:
            for _, done in requests:
                done.cancel()
            raise
        for (_, done), result in zip(requests, results, strict=True):
            if done.done():  # the caller was cancelled
                continue
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)


def _cancel_with_callers(task: asyncio.Task[None], callers: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel the task once all callers are cancelled, as if each had run its own."""

    def check(_: object) -> None:
        if all(caller.cancelled() for caller in callers):
            task.cancel()

    for caller in callers:
        caller.add_done_callback(check)
