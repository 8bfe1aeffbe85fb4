"""How the console reaches Redis and the checks, from the thread of the HTTP server."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from redis.asyncio import Redis

from memory_worker.inspection.check import run_checks
from memory_worker.inspection.checks import Check
from memory_worker.runtime.wiring import connected_queue
from memory_worker.settings import Settings
from memory_worker.store.store import VectorStore

_REDIS_TIMEOUT_S = 2.0
_CHECKS_S = 30.0


@dataclass(frozen=True, slots=True)
class ConsoleWiring:
    """Connects the console with a worker, whose event loop is ``loop``."""

    settings: Settings
    redis: Redis
    store: VectorStore
    loop: asyncio.AbstractEventLoop

    def connect(self) -> AbstractAsyncContextManager[Redis]:
        """Open connections to Redis for one page. A connection of the worker cannot be used in another event loop."""
        timeout_s = min(_REDIS_TIMEOUT_S, self.settings.redis_timeout_s)
        return connected_queue(self.settings.model_copy(update={"redis_timeout_s": timeout_s}))

    def run_checks(self) -> Future[list[Check]]:
        """Run the checks in the worker's event loop, because its connections to Qdrant belong to it."""
        return asyncio.run_coroutine_threadsafe(self._checks(), self.loop)

    async def _checks(self) -> list[Check]:
        async with asyncio.timeout(_CHECKS_S):
            return [check async for check in run_checks(self.settings, self.redis, self.store)]
