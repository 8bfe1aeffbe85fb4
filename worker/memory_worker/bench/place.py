"""The place of a benchmark: its own key prefix and its own collections, which are removed afterwards."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from qdrant_client import AsyncQdrantClient
from redis.asyncio import Redis

from memory_worker.bench.calls import arq_queue, qdrant_access
from memory_worker.bench.processes import read_text
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.wiring import open_queue, open_store, queue_meta
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef
from memory_worker.wire.connection import close_redis, queue_errors
from memory_worker.wire.keys import Keys

_OPTIMIZING, _POLL_S = "yellow", 0.1
_LIBRARIES = ("memory-worker", "arq", "redis", "hiredis", "qdrant-client", "grpcio", "protobuf", "msgspec", "uvloop")


class Place:
    """The queue and the collections. Connections to Qdrant are short-lived, because gRPC and forks do not mix."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings = settings
        self._redis = redis

    async def described(self, *, embedded: bool) -> str:
        """Describe the machine, the engines and the libraries. ``embedded`` is that of `measure`."""
        with queue_errors():
            redis, kept = await self._redis.info("server"), await self._redis.info("persistence")
        async with open_store(self._settings) as store:
            qdrant = f"Qdrant Edge {version('qdrant-edge-py')}" if embedded else f"Qdrant {await store.version()}"
        server = f"Valkey {redis['valkey_version']}" if "valkey_version" in redis else f"Redis {redis['redis_version']}"
        model = re.search(r"model name\s*: (.+)", read_text("/proc/cpuinfo"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        machine = f"{model[1] if model else platform.machine()}, {cores} cores, load before {os.getloadavg()[0]:.2f}"
        engines = f"{server} ({'' if kept['aof_enabled'] else 'no '}append-only file), {qdrant}"
        engines += f", {self._settings.qdrant_vector_dimension} dimensions"
        system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
        return "; ".join((machine, engines, system, ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)))

    async def waiting(self) -> int:
        """Return how many writes wait, as the queue counts them."""
        jobs = await self._redis.hget(Keys(self._settings.queue_prefix).backlog, "jobs")  # type: ignore[misc]  # redis-py
        return max(0, int(jobs or 0))

    async def arq_waiting(self) -> int:
        """Return how many jobs of the arq peer have not finished."""
        return int(await self._redis.zcard(arq_queue(self._settings)))

    async def settle(self, *, within_s: float = 60.0) -> bool:
        """Wait until the engine does not optimize its collections. Return whether it came to that in time."""
        until = time.monotonic() + within_s
        async with open_store(self._settings) as store:
            while any(info.status == _OPTIMIZING for info in await store.info()):
                if time.monotonic() > until:
                    return False
                await asyncio.sleep(_POLL_S)
        return True

    async def points(self) -> int:
        """Return how many points the engine has, exactly."""
        client = AsyncQdrantClient(**qdrant_access(self._settings))
        try:
            return (await client.count(self._settings.qdrant_memories_collection, exact=True)).count
        finally:
            await client.close()


@asynccontextmanager
async def own_place(settings: Settings) -> AsyncIterator[Place]:
    """Create the place of these settings, and remove it at the end, even after an error."""
    redis = open_queue(settings)
    try:
        await publish_meta(redis, Keys(settings.queue_prefix), queue_meta(settings))
        async with open_store(settings) as store:
            await store.prepare()
        yield Place(settings, redis)
    finally:
        try:
            # In another task, because in a cancelled one timeouts are cancellations in early versions of 3.11.
            await asyncio.create_task(_remove(settings, redis))
        finally:
            await close_redis(redis)


async def _remove(settings: Settings, redis: Redis) -> None:
    async with open_store(settings) as store:
        for kind in settings.kinds:
            await store.collections.drop(CollectionRef(kind))
    async for key in redis.scan_iter(match=f"*{settings.queue_prefix}:*", count=1000):
        await redis.unlink(key)
