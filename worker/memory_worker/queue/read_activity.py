"""Whether reads of users are being answered. Search workers record it in Redis, and ingest workers look there.

Both happen beside the work, at most a few times a second. If Redis does not answer, nothing is recorded or learned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from memory_worker.contract.errors import QueueError
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

_LIFE_S = 0.5
_RECORD_EVERY_S = 0.2
_LOOK_EVERY_S = 0.1


class ReadActivity:
    """The reads of all workers of one queue, as one process records or sees them."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.reading
        self._next_at = float("-inf")
        self._is_active = False
        self._task: asyncio.Task[None] | None = None

    def record(self) -> None:
        """Record that this process is answering a read."""
        self._in_background(_RECORD_EVERY_S, self._record)

    def is_active(self) -> bool:
        """Return whether reads were being answered when this was last looked up, and look it up again if needed."""
        self._in_background(_LOOK_EVERY_S, self._look)
        return self._is_active

    def _in_background(self, every_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        now = time.monotonic()
        if now >= self._next_at and (self._task is None or self._task.done()):
            self._next_at = now + every_s
            self._task = asyncio.create_task(_quietly(work()))

    async def _record(self) -> None:
        with queue_request("reading"):
            await self._redis.set(self._key, 1, px=int(_LIFE_S * 1000))

    async def _look(self) -> None:
        with queue_request("reading"):
            self._is_active = bool(await self._redis.exists(self._key))


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with suppress(QueueError):
        await work
