"""A budget of bytes: what is large is taken in hand only when there is room for it."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self


class ReadBounds(NamedTuple):
    """Bytes of the answers to reads, in one process and in Redis.

    ``most_bytes`` is the largest answer there is; up to ``small_bytes`` nobody waits for room. All larger ones together
    have ``large_bytes``. In Redis ``replies_bytes`` of large replies may wait to be taken.
    """

    most_bytes: int = 16_777_216
    small_bytes: int = 786_432
    large_bytes: int = 25_165_824
    replies_bytes: int = 67_108_864


class ByteBudget:
    """Bytes that may be held at once in this process. Requests for more wait, first come, first served.

    A request for more than ``total_bytes`` counts as all of it: it waits until nothing else is held.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self) -> Holding:
        """Return what holds nothing yet; it is a context manager, which releases at its end."""
        return Holding(self)

    async def take(self, size: int) -> int:
        """Wait for ``size`` bytes; return how many to release."""
        size = min(size, self._total)
        if not self._waiting and self._held + size <= self._total:
            self._held += size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)
            else:
                self._waiting.remove((size, turn))
                self._grant()
            raise
        return size

    def release(self, size: int) -> None:
        """Give bytes back, and let those who wait take them."""
        self._held -= size
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._held + self._waiting[0][0] <= self._total:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._held += size
                turn.set_result(None)


class Holding:
    """What one piece of work holds of a budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._release()

    async def take(self, size: int) -> None:
        """Hold ``size`` bytes instead of what was held until now; wait for them."""
        self._release()
        self._size = await self._budget.take(size)

    def shrink(self, size: int) -> None:
        """Hold no more than ``size`` bytes from now on."""
        if size < self._size:
            more, self._size = self._size - size, size
            self._budget.release(more)

    def _release(self) -> None:
        self.shrink(0)
