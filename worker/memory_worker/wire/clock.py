"""The clock of the Redis server, which stamps entries and decides when jobs are due."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from memory_worker.wire.connection import queue_request


async def redis_time_ms(redis: Redis) -> float:
    """Return the time of Redis in unix milliseconds. One round trip."""
    seconds, microseconds = await redis.time()
    return float(seconds * 1000 + microseconds / 1000)


class RedisClock:
    """The time of Redis, computed from the local monotonic clock between refreshes.

    The local wall clock is not trusted: it may be wrong by hours, and it may be set. ``offset_ms`` is how far Redis's
    clock was ahead of it at the last refresh.
    """

    def __init__(self) -> None:
        self.offset_ms = 0.0
        self._since_start_ms = (time.time() - time.monotonic()) * 1000
        self._earliest_since_start_ms = self._since_start_ms

    async def refresh(self, redis: Redis) -> None:
        """Ask Redis for its time. Raises `QueueUnavailable`."""
        asked = time.monotonic()
        with queue_request("time"):
            redis_ms = await redis_time_ms(redis)
        answered = time.monotonic()
        self._since_start_ms = redis_ms - (asked + answered) * 500
        self._earliest_since_start_ms = redis_ms - answered * 1000
        self.offset_ms = self.now_ms() - time.time() * 1000

    def now_ms(self) -> float:
        """Return Redis's time in unix milliseconds."""
        return time.monotonic() * 1000 + self._since_start_ms

    def earliest_ms(self) -> float:
        """Return a lower bound of Redis's time, however long the last answer took to arrive."""
        return time.monotonic() * 1000 + self._earliest_since_start_ms
