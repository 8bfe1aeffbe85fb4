"""Pages that were made a short time ago. Any number of viewers costs no more than one."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from memory_worker.contract.errors import RequestRefused

LIFE_S = 1.0
LIFE_PER_CPU = 200
"""A page that takes long is kept for this many times its CPU time, so that it takes 0.5 % of a CPU."""
_LONGEST_LIFE_S = 5.0
"""No page is kept for longer, because workers report new figures this often."""
_MOST_PAGES = 64
_AT_ONCE = 4
_MOST_WAITING = 64
_REST = 2.0
"""After a page, the thread rests for this many times the CPU time that it took, so that the worker has the rest."""


class Made(NamedTuple):
    """A page: its HTTP status and its HTML."""

    status: int
    html: str


class _Kept:
    """A page that is being made or was made, and until when it is shown."""

    def __init__(self, making: Callable[[_Kept], Coroutine[Any, Any, Made]]) -> None:
        self.until = math.inf
        self.task = asyncio.create_task(making(self))

    @property
    def is_old(self) -> bool:
        return self.task.done() and (time.monotonic() > self.until or self.task.cancelled())


class PageCache:
    """Makes each page once in one to five seconds, and few at a time. The pages that were asked for last are kept.

    However many different pages are asked for, they take a third of the CPU at most.
    """

    def __init__(self) -> None:
        self._free_at = 0.0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._pages: OrderedDict[str, _Kept] = OrderedDict()

    async def get(self, key: str, make: Callable[[], Awaitable[Made]]) -> Made:
        """Return the page of a key. Viewers who ask while it is being made wait for it together.

        Raises `RequestRefused` if too many pages wait already.
        """
        page = self._pages.get(key)
        if page is None or page.is_old:
            self._pages[key] = page = self._start(make)
        self._pages.move_to_end(key)
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return await asyncio.shield(page.task)

    def _start(self, make: Callable[[], Awaitable[Made]]) -> _Kept:
        if self._waiting >= _MOST_WAITING:
            raise RequestRefused(503, "Too many pages were asked for. Try again.")
        self._waiting += 1
        page = _Kept(lambda page: self._made(page, make))
        page.task.add_done_callback(_look_at)
        return page

    async def _made(self, page: _Kept, make: Callable[[], Awaitable[Made]]) -> Made:
        try:
            async with self._turns:
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
                began = time.thread_time()
                try:
                    return await make()
                finally:
                    cpu_s, now = time.thread_time() - began, time.monotonic()
                    self._free_at = now + _REST * cpu_s
                    page.until = now + min(max(LIFE_S, LIFE_PER_CPU * cpu_s), _LONGEST_LIFE_S)
        finally:
            self._waiting -= 1

    def clear(self) -> None:
        """Forget all pages, because an action has changed what they show."""
        self._pages.clear()


def _look_at(task: asyncio.Task[Made]) -> None:
    """Take the error of a page. Those who asked get it, too, but they may have gone away."""
    if not task.cancelled():
        task.exception()
