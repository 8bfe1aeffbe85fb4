"""A connection pool in which requests wait for a free connection, and which leaves the old server after a failover.

After a failover the address in the URL leads to another server. Open connections stay with the old one, where all of
their requests would fail. So when a connection shows signs of a wrong server, the pool closes it and all idle
connections. The next request then resolves the address again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Any, TypeAlias

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from memory_worker.wire.server_errors import TurnedAway, indicates_wrong_server, is_out_of_room, keep_full_message

HAS_HIREDIS = find_spec("hiredis") is not None
"""hiredis is optional. It packs commands in a sixth of the time."""

if HAS_HIREDIS:
    import hiredis

_CAN_READ = "can_read" if hasattr(AbstractConnection, "can_read") else "can_read_destructive"
"""The name of this method in redis-py 8, and in earlier versions."""

_Waiter: TypeAlias = "asyncio.Future[AbstractConnection | None]"


async def log_in(connection: AbstractConnection) -> None:
    """Log in on a connection that was just opened, as redis-py does."""
    try:
        await connection.on_connect()
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError as error:
        raise TurnedAway(f"Redis accepts no more connections, or is shutting down: {error}") from error


class _WatchedConnection(AbstractConnection):
    """A connection that notices signs of a wrong server."""

    wrong_server = False

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command in its wire format. The first argument may consist of several words."""
        if not HAS_HIREDIS:
            return super().pack_command(*args)
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the reply to a command, as redis-py does."""
        try:
            return await super().read_response(*args, **options)
        except RedisError as error:
            keep_full_message(error)
            self.wrong_server = self.wrong_server or indicates_wrong_server(error)
            raise


class PlainConnection(_WatchedConnection, Connection):
    """A TCP connection without TLS."""


class UnixConnection(_WatchedConnection, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class TlsConnection(_WatchedConnection, SSLConnection):
    """A TLS connection. All connections share one context, so that its files are read once."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


class WaitingPool(ConnectionPool):
    """A pool in which requests wait in order until a connection is free.

    A wait fails after ``wait_s`` seconds. With ``None`` it lasts until the caller gives up. When one of the ``linked``
    pools finds a wrong server, the idle connections of all of them are closed.
    """

    def __init__(self, *args: Any, wait_s: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.linked: list[WaitingPool] = [self]
        self._wait_s = wait_s
        self._waiting: deque[_Waiter] = deque()

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """Return an open connection. The arguments are those of older versions of redis-py, and are ignored."""
        freed: AbstractConnection | None = None
        while True:
            connection = freed or self._idle_or_new() or await self._next_free()
            if connection is None:
                continue
            try:
                await _connect(connection)
            except BaseException as error:
                await connection.disconnect(nowait=True)
                self._in_use_connections.discard(connection)
                if not (is_out_of_room(error) and await self._has_others()):
                    self._wake_next(None)
                    raise
            else:
                return connection
            all_in_use = self._in_use_connections and not self._available_connections
            freed = await self._next_free() if all_in_use else None

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Return a context manager that raises ``TimeoutError`` if its body takes longer."""
        return asyncio.timeout(seconds)

    async def release(self, connection: AbstractConnection) -> None:
        """Release a connection. The longest-waiting request gets it."""
        if isinstance(connection, _WatchedConnection) and connection.wrong_server:
            connection.wrong_server = False
            await connection.disconnect(nowait=True)
            await self.close_idle()
        self._pass_on(connection)

    async def close_idle(self, *, for_room: bool = False) -> int:
        """Close the idle connections of all linked pools. Return how many were closed.

        With ``for_room`` each pool keeps one, and the others are fully closed when this returns.
        """
        closed = []
        for pool in self.linked:
            closed += pool._available_connections[int(for_room) :]
            del pool._available_connections[int(for_room) :]
        for connection in closed:
            await connection.disconnect(nowait=not for_room)
        return len(closed)

    async def _has_others(self) -> bool:
        """Return whether the pool has other connections, or could make room for one by closing idle ones."""
        return bool(self._available_connections or self._in_use_connections) or await self.close_idle(for_room=True) > 0

    def _idle_or_new(self) -> AbstractConnection | None:
        if self._available_connections:
            connection = self._available_connections.pop()
        elif len(self._in_use_connections) < self.max_connections:
            connection = self.connection_class(**self.connection_kwargs)
        else:
            return None
        self._in_use_connections.add(connection)
        return connection

    async def _next_free(self) -> AbstractConnection | None:
        """Wait until a connection is released, and return it. ``None`` means that a new one may be opened."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # it was given a connection at the same moment
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"no connection became free within {self._wait_s:g} s") from None
            raise

    def _pass_on(self, connection: AbstractConnection | None) -> None:
        """Give a connection to the next waiting request, or keep it as idle if none waits."""
        if not self._wake_next(connection) and connection is not None:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)

    def _wake_next(self, connection: AbstractConnection | None) -> bool:
        """Give a connection to the longest-waiting request, or let it open one. Return whether any request waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False


async def _connect(connection: AbstractConnection) -> None:
    """Connect if needed. Reconnect if there is unread data, or if the server has closed the connection."""
    await connection.connect()
    try:
        usable = not await getattr(connection, _CAN_READ)()
    except (RedisConnectionError, RedisTimeoutError, OSError):
        usable = False
    if not usable:
        await connection.disconnect()
        await connection.connect()
