"""The bell: what a worker waits at for work, instead of looking for it again and again.

Whoever enqueues a job rings. A ring may get lost with the worker that heard it, and a job that is due later rings no
bell, so a worker looks for work now and then all the same.
"""

from __future__ import annotations

from arq.connections import ArqRedis

from memory_worker.queue.connection import queue_errors


class Bell:
    """The bell of one role, heard by one of those who wait at it."""

    def __init__(self, redis: ArqRedis, key: str) -> None:
        self._redis = redis
        self._key = key

    async def wait(self, timeout_s: float) -> None:
        """Return when it rings, or after ``timeout_s`` seconds; raises `QueueUnavailable`."""
        with queue_errors():
            await self._redis.execute_command("BLPOP", self._key, timeout_s)  # type: ignore[no-untyped-call]
