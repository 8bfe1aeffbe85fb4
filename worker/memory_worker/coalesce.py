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

    An item waits for others for this one turn only. An item that is alone is processed in the task of its caller.
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
        key = self._key(item)
        others = self._waiting.get(key)
        if others is None:
            return await self._do_first(item, key)
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        others.append((item, done))
        return await done

    async def _do_first(self, item: _Item, key: object) -> _Result:
        others: list[_Request[_Item, _Result]] = []
        self._waiting[key] = others
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._start(others)
            raise
        finally:
            del self._waiting[key]
        if others:
            done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
            self._start([(item, done), *others])
            return await done
        [result] = await self._results_of([item])
        if isinstance(result, Exception):
            raise result
        return result

    def _start(self, waiting: list[_Request[_Item, _Result]]) -> None:
        for first in range(0, len(waiting), self._max_items):
            requests = waiting[first : first + self._max_items]
            task = asyncio.create_task(self._run(requests))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            _cancel_with_callers(task, [done for _, done in requests])

    async def _results_of(self, items: list[_Item]) -> Sequence[_Result | Exception]:
        results = await self._work(items)
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items, {len(results)} results")
        return results

    async def _run(self, requests: list[_Request[_Item, _Result]]) -> None:
        results: Sequence[_Result | Exception]
        try:
            results = await self._results_of([item for item, _ in requests])
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
