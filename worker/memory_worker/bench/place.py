"""The place of a benchmark: a key prefix and collections of its own, made before and removed afterwards."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qdrant_client import AsyncQdrantClient
from redis.asyncio import Redis

from memory_worker.bench.direct_calls import qdrant_access
from memory_worker.contract.kinds import KINDS
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.state import partition_states
from memory_worker.runtime.wiring import open_queue, open_store, queue_meta
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef
from memory_worker.wire.connection import close_redis
from memory_worker.wire.keys import Keys

_SETTLED = "green"
_SETTLE_TIMEOUT_S = 600.0
_LOOK_EVERY_S = 0.5
_SAMPLE_S = 0.01
_LONGEST_PREFIX = 48
"""With what follows it, a prefix may have 64 characters."""


def own_names(prefix: str) -> dict[str, Any]:
    """Return settings under which a benchmark meets nobody else, and is held back by no limit of the queue.

    Its keys and collections are named after the ``QUEUE_PREFIX`` of the deployment that it runs beside.
    """
    name = f"{prefix[:_LONGEST_PREFIX]}-bench-{secrets.token_hex(4)}"
    collection = name.replace(".", "-")  # which may be in a prefix only
    return {
        "queue_prefix": name,
        "qdrant_memories_collection": f"{collection}-m",
        "qdrant_documents_collection": f"{collection}-d",
        "queue_max_jobs": 0,
        "queue_max_bytes": 0,
        "port": 0,
        "bind_host": "127.0.0.1",
    }


class Place:
    """The queue and the collections. Connections to Qdrant are short: gRPC and starting processes do not go well."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings = settings
        self._redis = redis
        self._keys = Keys(settings.queue_prefix)

    async def waiting(self) -> int:
        """Return how many writes wait, as the queue counts them."""
        return max(0, int(await self._redis.hget(self._keys.backlog, "jobs") or 0))  # type: ignore[misc]  # redis-py

    async def falls_below(self, count: int) -> None:
        """Return once fewer writes wait than ``count``."""
        while await self.waiting() >= count:  # noqa: ASYNC110  # what changes is elsewhere
            await asyncio.sleep(_SAMPLE_S)

    async def troubles(self) -> dict[str, int]:
        """Return what ought not to be there in the end: dead letters, and entries that the count does not know of."""
        states = await partition_states(self._redis, self._keys, self._settings.queue_partitions)
        found = {
            "dead letters": sum(state.dead for state in states),
            "entries that are not counted": sum(state.waiting for state in states) - await self.waiting(),
        }
        return {what: number for what, number in found.items() if number}

    async def stored(self) -> int:
        """Return how many points the engine has, exactly."""
        client = AsyncQdrantClient(**qdrant_access(self._settings))
        try:
            return (await client.count(self._settings.qdrant_memories_collection, exact=True)).count
        finally:
            await client.close()

    async def settled(self) -> float:
        """Wait until the engine has done what it does by itself after many writes; return the seconds it took."""
        started = time.monotonic()
        async with open_store(self._settings) as store:
            while time.monotonic() - started < _SETTLE_TIMEOUT_S:
                if all(info.status == _SETTLED for info in await store.info()):
                    break
                await asyncio.sleep(_LOOK_EVERY_S)
        return time.monotonic() - started

    async def make(self) -> None:
        """Fix the number of partitions and make the collections."""
        await publish_meta(self._redis, self._keys, queue_meta(self._settings))
        async with open_store(self._settings) as store:
            await store.prepare()

    async def empty(self) -> None:
        """Drop the points and all keys."""
        async with open_store(self._settings) as store:
            for kind in KINDS:
                await store.collections.drop(CollectionRef(kind))
        async for key in self._redis.scan_iter(match=f"*{self._keys.prefix}:*", count=1000):
            await self._redis.unlink(key)


@asynccontextmanager
async def own_place(settings: Settings) -> AsyncIterator[Place]:
    """Make the place of these settings; remove it at the end, however that comes."""
    redis = open_queue(settings)
    place = Place(settings, redis)
    try:
        await place.make()
        yield place
    finally:
        try:
            # In a task of its own: in one that was cancelled, timeouts are cancellations in early versions of 3.11.
            await asyncio.create_task(place.empty())
        finally:
            await close_redis(redis)
