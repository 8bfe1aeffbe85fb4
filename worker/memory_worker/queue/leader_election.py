"""Leader election: one replica at a time collects the queue stats and publishes them for the others."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class LeaderElection:
    """Elects the leader among replicas, and shares the stats that it publishes."""

    def __init__(self, redis: Redis, keys: Keys, *, life_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = int(life_s * 1000)
        self._token = secrets.token_hex(16)

    async def elect(self) -> bool:
        """Become or stay the leader for ``life_s`` seconds. Return ``False`` if another replica is the leader."""
        with queue_request("elect"):
            return bool(await scripts.run(self._redis, "elect", [self._keys.leader], [self._token, self._life_ms]))

    async def publish(self, stats: bytes) -> None:
        """Publish stats for the other replicas. They expire after ``life_s`` seconds."""
        with queue_request("publish_stats"):
            await self._redis.set(self._keys.stats, stats, px=self._life_ms)

    async def latest(self) -> bytes | None:
        """Return the stats that were published last, or ``None`` if they have expired."""
        with queue_request("read_stats"):
            found: bytes | None = await self._redis.get(self._keys.stats)
        return found
