"""A budget of bytes, which bounds how much memory large answers take at once."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self


class ReadMemoryLimits(NamedTuple):
    """Limits, in bytes, of the answers to reads.

    ``max_answer_bytes`` is the size of the largest answer that is allowed. An answer of up to ``small_answer_bytes``
    needs no room in the budget. All larger answers in this process share ``budget_bytes``. All large replies that wait
    in Redis share ``max_replies_bytes``.
    """

    max_answer_bytes: int = 16_777_216
    small_answer_bytes: int = 786_432
    budget_bytes: int = 25_165_824
    max_replies_bytes: int = 67_108_864


class ByteBudget:
    """The bytes that may be reserved at once in this process. Requests that do not fit wait in order.

    A request for more than ``total_bytes`` counts as all of them. It waits until nothing else is reserved.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._reserved = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def reservation(self) -> Reservation:
        """Return a reservation of no bytes. It is a context manager that releases its bytes at the end."""
        return Reservation(self)

    async def take(self, size: int) -> int:
        """Wait until ``size`` bytes are free, and take them. Return how many bytes to release later."""
        size = min(size, self._total)
        if not self._waiting and self._reserved + size <= self._total:
            self._reserved += size
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
        """Release bytes, and give them to requests that wait."""
        self._reserved -= size
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._reserved + self._waiting[0][0] <= self._total:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._reserved += size
                turn.set_result(None)


class Reservation:
    """The bytes of a budget that one request has reserved."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shrink(0)

    async def replace(self, size: int) -> None:
        """Release the bytes reserved so far. Then wait until ``size`` bytes are free, and reserve them."""
        self.shrink(0)
        self._size = await self._budget.take(size)

    def shrink(self, size: int) -> None:
        """Release all bytes beyond ``size``."""
        if size < self._size:
            surplus, self._size = self._size - size, size
            self._budget.release(surplus)
