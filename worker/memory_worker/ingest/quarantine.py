"""The gate: lets a suspect be tried while nothing else is, so that a death of the process is blamed on nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Quarantine:
    """Lets in many at a time, or one alone. Who wants to be alone is waited for by all who come later."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for the others as far as needed, and stay inside for the length of the block."""
        await self._until(lambda: not self._alone)
        if alone:
            self._alone = True
        self._inside += 1
        try:
            if alone:
                await self._until(lambda: self._inside == 1)
            yield
        finally:
            self._inside -= 1
            if alone:
                self._alone = False
            self._changed.set()
            self._changed = asyncio.Event()

    async def _until(self, met: Callable[[], bool]) -> None:
        while not met():
            await self._changed.wait()
