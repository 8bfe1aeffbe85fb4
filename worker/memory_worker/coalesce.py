"""Joins what is asked for at about the same time into one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Waiting: TypeAlias = "tuple[_Item, asyncio.Future[_Result]]"


class Coalescer(Generic[_Item, _Result]):
    """Does the ``work`` of all items of one ``key`` that come within one turn of the event loop at once.

    ``work`` takes up to ``most`` items and returns, in their order, a result or an error for each; what it raises is
    raised for all of them. It is cancelled once all who wait for it are.
    Nothing waits for company: an item that comes alone is worked on alone.
    """

    def __init__(
        self,
        work: Callable[[list[_Item]], Awaitable[Sequence[_Result | Exception]]],
        *,
        most: int,
        key: Callable[[_Item], object] = lambda _: None,
    ) -> None:
        self._work = work
        self._most = most
        self._key = key
        self._waiting: dict[object, list[_Waiting[_Item, _Result]]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def do(self, item: _Item) -> _Result:
        """Return the result of one item."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Result] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.setdefault(self._key(item), []).append((item, done))
        return await done

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for same in waiting.values():
            for first in range(0, len(same), self._most):
                coalesced = same[first : first + self._most]
                task = asyncio.create_task(self._run(coalesced))
                self._working.add(task)
                task.add_done_callback(self._working.discard)
                _cancel_with(task, [done for _, done in coalesced])

    async def _run(self, coalesced: list[_Waiting[_Item, _Result]]) -> None:
        results: Sequence[_Result | Exception]
        try:
            results = await self._work([item for item, _ in coalesced])
            if len(results) != len(coalesced):
                raise RuntimeError(f"{len(coalesced)} items, {len(results)} results")
        except Exception as error:  # noqa: BLE001  # it is raised for those who wait
            results = [error] * len(coalesced)
        except asyncio.CancelledError:
            for _, done in coalesced:
                done.cancel()
            raise
        for (_, done), result in zip(coalesced, results, strict=True):
            if done.done():  # nobody waits any more
                continue
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)


def _cancel_with(task: asyncio.Task[None], waiters: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel the work once nobody waits for it any more: it is as if each had done its own."""

    def look(_: object) -> None:
        if all(done.cancelled() for done in waiters):
            task.cancel()

    for done in waiters:
        done.add_done_callback(look)
