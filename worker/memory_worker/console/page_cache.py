"""Pages that were made within the last second. Any number of viewers costs no more than one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from memory_worker.contract.errors import RequestRefused

LIFE_S = 1.0
_MOST_PAGES = 64
_AT_ONCE = 4
_MOST_WAITING = 64
_REST = 2.0
"""After a page, the thread rests for this many times the CPU time that it took, so that the worker has the rest."""


class Made(NamedTuple):
    """A page: its HTTP status and its HTML."""

    status: int
    html: str


class PageCache:
    """Makes each page at most once per second, and few pages at a time. The pages that were asked for last are kept.

    However many different pages are asked for, they take a third of the CPU at most.
    """

    def __init__(self) -> None:
        self._free_at = 0.0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._pages: OrderedDict[str, tuple[asyncio.Task[Made], float]] = OrderedDict()

    async def get(self, key: str, make: Callable[[], Awaitable[Made]]) -> Made:
        """Return the page of a key. Viewers who ask while it is being made wait for it together.

        Raises `RequestRefused` if too many pages wait already.
        """
        task, made_at = self._pages.get(key, (None, 0.0))
        if task is None or (task.done() and (time.monotonic() - made_at > LIFE_S or task.cancelled())):
            task = self._start(make)
            self._pages[key] = (task, time.monotonic())
            task.add_done_callback(lambda done: self._finished(key, done))
        self._pages.move_to_end(key)
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return await asyncio.shield(task)

    def _start(self, make: Callable[[], Awaitable[Made]]) -> asyncio.Task[Made]:
        if self._waiting >= _MOST_WAITING:
            raise RequestRefused(503, "Too many pages were asked for. Try again.")
        self._waiting += 1
        return asyncio.create_task(self._made(make))

    async def _made(self, make: Callable[[], Awaitable[Made]]) -> Made:
        try:
            async with self._turns:
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
                began = time.thread_time()
                try:
                    return await make()
                finally:
                    self._free_at = time.monotonic() + _REST * (time.thread_time() - began)
        finally:
            self._waiting -= 1

    def clear(self) -> None:
        """Forget all pages, because an action has changed what they show."""
        self._pages.clear()

    def _finished(self, key: str, task: asyncio.Task[Made]) -> None:
        if not task.cancelled():
            task.exception()  # those who asked get it; if all of them have gone away, nobody needs it
        if self._pages.get(key, (None, 0.0))[0] is task:
            self._pages[key] = (task, time.monotonic())
