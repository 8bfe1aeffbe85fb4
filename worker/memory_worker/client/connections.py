"""The connections of a producer: one set for each event loop, or for each process."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Protocol

from redis.asyncio import Redis

from memory_worker.contract.errors import ConfigurationError
from memory_worker.wire.blocking import open_blocking_redis
from memory_worker.wire.connection import Access, close_redis, link_pools, open_redis
from memory_worker.wire.time_limit import remaining_s

MAX_CONNECTIONS = 200


class Connections:
    """Two pools: ``redis`` for quick commands, ``blocking`` for commands that wait.

    Whoever reads the limits of the queue holds the lock ``refreshing``.
    """

    def __init__(self, redis: Redis, blocking: Redis, refreshing: asyncio.Lock | _ThreadLock) -> None:
        self.redis = redis
        self.blocking = blocking
        self.refreshing = refreshing
        link_pools(redis, blocking)


class ConnectionSource(Protocol):
    """Opens and closes the connections of a producer."""

    def open(self) -> Connections:
        """Return the connections of the caller."""

    async def close(self) -> None:
        """Close all connections. They are opened again if needed."""


class PerLoop:
    """Connections that belong to the event loop that first used them. In another event loop new ones are opened."""

    def __init__(self, url: str, *, prefix: str, timeout_s: float, access: Access, max_connections: int) -> None:
        self._url = url
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._access = access
        self._sizes = _pool_sizes(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: Connections | None = None

    def open(self) -> Connections:
        """Return the connections of this event loop."""
        loop = asyncio.get_running_loop()
        if self._connections is None or self._loop is not loop:
            quick, blocking = (
                open_redis(
                    self._url, prefix=self._prefix, timeout_s=timeout_s, access=self._access, max_connections=size
                )
                for timeout_s, size in zip((self._timeout_s, None), self._sizes, strict=True)
            )
            self._loop, self._connections = loop, Connections(quick, blocking, asyncio.Lock())
        return self._connections

    async def close(self) -> None:
        """Close all connections of this event loop."""
        connections, self._connections = self._connections, None
        if connections is not None and self._loop is asyncio.get_running_loop():
            for redis in (connections.redis, connections.blocking):
                await close_redis(redis)


class PerProcess:
    """Connections of a process, which its threads share. After a fork, the child opens its own."""

    def __init__(self, url: str, *, prefix: str, timeout_s: float, access: Access, max_connections: int) -> None:
        del timeout_s  # each request sets its own time limit
        self._url = url
        self._prefix = prefix
        self._access = access
        self._sizes = _pool_sizes(max_connections)
        self._by_process: dict[int, Connections] = {}

    def open(self) -> Connections:
        """Return the connections of this process."""
        process = os.getpid()
        found = self._by_process.get(process)
        if found is None:
            # Without a lock, because a thread of the parent may have held it during the fork.
            found = self._by_process.setdefault(process, self._make())
            for parent in set(self._by_process) - {process}:
                self._by_process.pop(parent, None)
        return found

    async def close(self) -> None:
        """Close all connections of this process."""
        connections = self._by_process.pop(os.getpid(), None)
        if connections is not None:
            for redis in (connections.redis, connections.blocking):
                redis.connection_pool.disconnect()  # type: ignore[unused-coroutine]  # it blocks

    def _make(self) -> Connections:
        quick, blocking = (
            open_blocking_redis(self._url, prefix=self._prefix, access=self._access, max_connections=size)
            for size in self._sizes
        )
        return Connections(quick, blocking, _ThreadLock())


class _ThreadLock:
    """A lock between threads, in the form of ``asyncio.Lock``. It waits until the time limit of the request.

    An exception of a signal handler, which may come after any call, does not leave it locked.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.release = self._lock.release  # this call cannot be interrupted, unlike one of a method in Python

    async def acquire(self) -> None:
        timeout_s = remaining_s()
        try:
            acquired = self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s)
        except BaseException:
            with suppress(RuntimeError):  # it was not acquired
                self._lock.release()
            raise
        if not acquired:
            raise TimeoutError


def _pool_sizes(max_connections: int) -> tuple[int, int]:
    """Return how many connections there may be for quick commands, and for commands that wait."""
    if max_connections < 2:  # noqa: PLR2004  # one for each of the two pools
        raise ConfigurationError(f"max_connections: must be at least 2, got {max_connections}")
    quick = max(1, max_connections // 4)
    return quick, max_connections - quick
