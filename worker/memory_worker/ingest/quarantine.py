"""The quarantine: an entry that may kill its process is tried while nothing else runs in the process.

So if the process dies, no other entry is blamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class QuarantineLock:
    """A lock that many drains share, or one drain in quarantine holds exclusively.

    While a drain waits for exclusive use, new drains wait behind it.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._exclusive = False
        self._changed = asyncio.Event()

    @property
    def is_exclusive(self) -> bool:
        """Whether a drain holds the lock exclusively, or waits for that."""
        return self._exclusive

    @asynccontextmanager
    async def hold(self, *, exclusive: bool) -> AsyncIterator[None]:
        """Wait for the lock, and hold it for the duration of the block."""
        await self._wait_until(lambda: not self._exclusive)
        if exclusive:
            self._exclusive = True
        self._holders += 1
        try:
            if exclusive:
                await self._wait_until(lambda: self._holders == 1)
            yield
        finally:
            self._holders -= 1
            if exclusive:
                self._exclusive = False
            self._changed.set()
            self._changed = asyncio.Event()

    async def _wait_until(self, met: Callable[[], bool]) -> None:
        while not met():
            await self._changed.wait()
