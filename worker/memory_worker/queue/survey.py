"""The survey: one replica at a time looks at the whole queue, and leaves for the others what it saw."""

from __future__ import annotations

import secrets

from arq.connections import ArqRedis

from memory_worker.queue import scripts
from memory_worker.queue.connection import queue_request
from memory_worker.queue.keys import Keys


class SurveyOffice:
    """The right to survey the queue, held by one replica at a time, and the last survey."""

    def __init__(self, redis: ArqRedis, keys: Keys, *, life_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = int(life_s * 1000)
        self._token = secrets.token_hex(16)

    async def take(self) -> bool:
        """Take the office, or keep it, for ``life_s`` seconds; ``False``: another replica has it."""
        with queue_request("lead"):
            return bool(await scripts.run(self._redis, "lead", [self._keys.surveyor], [self._token, self._life_ms]))

    async def publish(self, survey: bytes) -> None:
        """Leave a survey for the others; it is forgotten when no other follows."""
        with queue_request("survey"):
            await self._redis.set(self._keys.survey, survey, px=self._life_ms)

    async def last(self) -> bytes | None:
        """Return the last survey, if it is recent."""
        with queue_request("survey"):
            found: bytes | None = await self._redis.get(self._keys.survey)
        return found
