"""Where a benchmark works: under its own key prefix and in its own collections, which are removed afterwards."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient
from redis.asyncio import Redis

from memory_worker.bench.calls import open_arq, qdrant_access
from memory_worker.contract.kinds import KINDS
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.wiring import open_queue, open_store, queue_meta
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef
from memory_worker.wire.connection import close_redis, queue_errors
from memory_worker.wire.keys import Keys

_SETTLED = "green"
_SETTLE_TIMEOUT_S, _POLL_S = 600.0, 0.5
_LONGEST_PREFIX = 48
"""With what follows it, a prefix may have 64 characters."""
_LIBRARIES = ("memory-worker", "arq", "redis", "hiredis", "qdrant-client", "grpcio", "protobuf", "msgspec", "uvloop")


def own_names(prefix: str) -> dict[str, Any]:
    """Return settings under which a benchmark touches no other data, and is held back by no limit of the queue.

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
    """The queue and the collections. Connections to Qdrant are short, because gRPC does not go well with forks."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings = settings
        self._redis = redis
        self._keys = Keys(settings.queue_prefix)

    async def described(self, *, embedded: bool) -> str:
        """Describe the machine, the engines and the libraries; ``embedded``: the vector engine is ours."""
        with queue_errors():
            redis, kept = await self._redis.info("server"), await self._redis.info("persistence")
        async with open_store(self._settings) as store:
            qdrant = f"Qdrant Edge {version('qdrant-edge-py')}" if embedded else f"Qdrant {await store.version()}"
        server = f"Valkey {redis['valkey_version']}" if "valkey_version" in redis else f"Redis {redis['redis_version']}"
        machine = f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.2f}"
        engines = f"{server} ({'' if kept['aof_enabled'] else 'no '}append-only file), {qdrant}"
        system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
        return "; ".join((machine, engines, system, ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)))

    async def waiting(self) -> int:
        """Return how many writes wait, as the queue counts them."""
        return max(0, int(await self._redis.hget(self._keys.backlog, "jobs") or 0))  # type: ignore[misc]  # redis-py

    async def arq_waiting(self) -> int:
        """Return how many jobs of the arq peer have not finished."""
        return int(await self._redis.zcard(open_arq(self._settings)[1]))

    async def settle(self) -> None:
        """Wait until the engine has done what it does by itself after many writes, but no longer than 10 minutes."""
        async with open_store(self._settings) as store:
            for _ in range(int(_SETTLE_TIMEOUT_S / _POLL_S)):
                if all(info.status == _SETTLED for info in await store.info()):
                    return
                await asyncio.sleep(_POLL_S)

    async def points(self) -> int:
        """Return how many points the engine has, exactly."""
        client = AsyncQdrantClient(**qdrant_access(self._settings))
        try:
            return (await client.count(self._settings.qdrant_memories_collection, exact=True)).count
        finally:
            await client.close()

    async def make(self) -> None:
        """Fix the number of partitions and make the collections."""
        await publish_meta(self._redis, self._keys, queue_meta(self._settings))
        async with open_store(self._settings) as store:
            await store.prepare()

    async def remove(self) -> None:
        """Drop the points and all keys."""
        async with open_store(self._settings) as store:
            for kind in KINDS:
                await store.collections.drop(CollectionRef(kind))
        async for key in self._redis.scan_iter(match=f"*{self._keys.prefix}:*", count=1000):
            await self._redis.unlink(key)


@asynccontextmanager
async def own_place(settings: Settings) -> AsyncIterator[Place]:
    """Make the place of these settings; remove it at the end, whatever ends the block."""
    redis = open_queue(settings)
    place = Place(settings, redis)
    try:
        await place.make()
        yield place
    finally:
        try:
            # In another task, because in a cancelled one timeouts are cancellations in early versions of 3.11.
            await asyncio.create_task(place.remove())
        finally:
            await close_redis(redis)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = path.exists() and re.search(r"model name\s*: (.+)", path.read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()
