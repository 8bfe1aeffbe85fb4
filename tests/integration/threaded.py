"""`SyncMemoryQueue` in the form of `MemoryQueue`, so that one test can use either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from memory_worker import SyncMemoryQueue


class Threaded:
    """Runs each method of a blocking client in a separate thread."""

    def __init__(self, queue: SyncMemoryQueue, threads: ThreadPoolExecutor) -> None:
        self.queue = queue
        self._threads = threads

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.queue, name)

        async def run(*args: Any, **options: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: method(*args, **options))

        return run


@asynccontextmanager
async def threaded(url: str, *, threads: int = 64, **options: Any) -> AsyncIterator[Threaded]:
    """Connect a blocking client."""
    with ThreadPoolExecutor(threads) as pool, SyncMemoryQueue.connect(url, **options) as queue:
        yield Threaded(queue, pool)
