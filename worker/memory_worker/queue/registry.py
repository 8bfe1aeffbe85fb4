"""The registry of collections in Redis: a hash of the deployment's collections, each with its origin."""

from __future__ import annotations

from redis.asyncio import Redis

from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class CollectionRegistry:
    """Stores the keys of collections with their origin. All methods raise `QueueUnavailable`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @property
    def deployment(self) -> str:
        """The name of this deployment, which is the ``QUEUE_PREFIX``."""
        return self._keys.prefix

    async def names(self) -> dict[str, str]:
        """Return the origin of each registered collection by its key."""
        with queue_request("read_collections"):
            found = await self._redis.execute_command("HGETALL", self._keys.collections)
        return {key.decode(errors="replace"): origin.decode(errors="replace") for key, origin in found.items()}

    async def add(self, key: str, origin: str) -> None:
        """Register a collection, or change the origin of a registered one."""
        with queue_request("register_collection"):
            await self._redis.execute_command("HSET", self._keys.collections, key, origin)
