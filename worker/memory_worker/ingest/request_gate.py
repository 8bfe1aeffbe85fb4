"""The request gate: while reads are being answered, few batches of a process are on their way to Qdrant at once.

Qdrant works on writes and on reads with the same processors, so reads wait for the batches that it is applying.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class RequestGate:
    """Lets at most ``most`` batches through at the same time while ``is_reading()``. With 0 there is no limit."""

    def __init__(self, most: int, is_reading: Callable[[], bool]) -> None:
        self._most = most
        self._is_reading = is_reading
        self._inside = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[None]:
        """Wait until a batch may be sent. The block is the time in which it is on its way."""
        while self._most and self._is_reading() and self._inside >= self._most:
            await self._changed.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._changed.set()
            self._changed = asyncio.Event()
