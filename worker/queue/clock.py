"""Redis's clock, by which entries are stamped and jobs fall due, kept as an offset to the local one."""

from __future__ import annotations

import time

from arq.connections import ArqRedis

from worker.queue.connection import queue_request


class RedisClock:
    """The time as Redis has it. The local clock may be wrong by hours; its pace is trusted between two looks."""

    def __init__(self) -> None:
        self.offset_ms = 0.0
        self._least_offset_ms = 0.0

    async def refresh(self, redis: ArqRedis) -> None:
        """Measure the offset again; raises `QueueUnavailable`."""
        asked = time.time()
        with queue_request("time"):
            seconds, microseconds = await redis.time()
        answered = time.time()
        redis_ms = seconds * 1000 + microseconds / 1000
        self.offset_ms = redis_ms - (asked + answered) * 500
        self._least_offset_ms = redis_ms - answered * 1000

    def now_ms(self) -> float:
        """Return Redis's time in unix milliseconds."""
        return time.time() * 1000 + self.offset_ms

    def least_ms(self) -> float:
        """Return what Redis's time is at least, however long its answer was on its way."""
        return time.time() * 1000 + self._least_offset_ms
