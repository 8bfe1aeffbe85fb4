"""Redis's clock, by which entries are stamped and jobs fall due, kept beside the local monotonic one."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from memory_worker.wire.connection import queue_request


class RedisClock:
    """The time as Redis has it. The local clock may be wrong by hours, and be set; its pace is trusted between looks.

    ``offset_ms`` is how far Redis's clock was ahead of the local one at the last look.
    """

    def __init__(self) -> None:
        self.offset_ms = 0.0
        self._since_start_ms = (time.time() - time.monotonic()) * 1000
        self._least_since_start_ms = self._since_start_ms

    async def refresh(self, redis: Redis) -> None:
        """Look again; raises `QueueUnavailable`."""
        asked = time.monotonic()
        with queue_request("time"):
            seconds, microseconds = await redis.time()
        answered = time.monotonic()
        redis_ms = seconds * 1000 + microseconds / 1000
        self._since_start_ms = redis_ms - (asked + answered) * 500
        self._least_since_start_ms = redis_ms - answered * 1000
        self.offset_ms = self.now_ms() - time.time() * 1000

    def now_ms(self) -> float:
        """Return Redis's time in unix milliseconds."""
        return time.monotonic() * 1000 + self._since_start_ms

    def least_ms(self) -> float:
        """Return what Redis's time is at least, however long its answer was on its way."""
        return time.monotonic() * 1000 + self._least_since_start_ms
