"""A connection pool in which requests wait for a free connection, and which leaves the old server after a failover.

After a failover the address in the URL leads to another server. Open connections stay with the old one, where all of
their requests would fail. So when a connection shows signs of a wrong server, the pool closes it and all idle
connections. The next request then resolves the address again. If Sentinel or a cluster knows the primary, each new
connection asks where it is, and checks that the server calls itself a primary.
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

from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.wire.primaries import Address, Primaries
from memory_worker.wire.server_errors import TurnedAway, indicates_wrong_server, is_out_of_room, keep_full_message

HAS_HIREDIS = find_spec("hiredis") is not None
"""hiredis is optional. It packs commands in a sixth of the time."""

if HAS_HIREDIS:
    import hiredis

_Waiter: TypeAlias = "asyncio.Future[AbstractConnection | None]"


async def log_in(connection: AbstractConnection) -> None:
    """Log in on a connection that was just opened, as redis-py does. Check that it leads to a primary."""
    try:
        await connection.on_connect()
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError as error:
        raise TurnedAway(f"Redis accepts no more connections, or is shutting down: {error}") from error
    if isinstance(connection, _WatchedConnection) and connection.primaries is not None:
        await connection.send_command("ROLE")
        server = Address(connection.host, connection.port)
        if problem := connection.primaries.check_role(server, await connection.read_response()):
            raise RedisConnectionError(problem)


class _WatchedConnection(AbstractConnection):
    """A connection that notices signs of a wrong server. With ``primaries`` it leads to the server that they find."""

    wrong_server = False

    def __init__(self, *, primaries: Primaries | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.primaries = primaries

    async def connect(self) -> None:
        """Connect if needed, as redis-py does. Errors of the search for the primary are not wrapped."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if not isinstance(error.__cause__, MemoryWorkerError):
                raise
            problem = error.__cause__
        else:
            return
        raise problem  # outside of the handler, or the two errors would be each other's cause

    async def _connect(self) -> None:
        if self.primaries is not None:
            self.host, self.port = await self.primaries.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call,safe-super]
        except BaseException:
            self._suspect()
            raise

    def _suspect(self) -> None:
        if self.primaries is not None:
            self.primaries.suspect()

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command in its wire format. The first argument may consist of several words."""
        if not HAS_HIREDIS:
            return super().pack_command(*args)
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command as redis-py does. With a timeout, redis-py would start a task for each command."""
        writer = self._writer
        if self.socket_timeout is None or writer is None:
            await super().send_packed_command(command, check_health)
            return
        try:
            # Not writelines: in Python 3.12 and 3.13 it lets the buffer grow without end.
            writer.write(command[0] if len(command) == 1 else b"".join(command))
            async with asyncio.timeout(self.socket_timeout):
                await writer.drain()
        except BaseException as error:
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("Redis takes no more data") from error
            if isinstance(error, OSError):
                raise RedisConnectionError(f"the connection ended while a command was sent: {error}") from error
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the reply to a command, as redis-py does."""
        try:
            return await super().read_response(*args, **options)
        except RedisError as error:
            keep_full_message(error, finds=self.primaries is not None)
            if indicates_wrong_server(error):
                self.wrong_server = True
                self._suspect()
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
        self._closed = False

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
        if self._closed:  # a request that was under way has opened it again
            await connection.disconnect(nowait=True)
        self._pass_on(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:  # the signature of redis-py
        """Close the pool. It keeps no connection open that a request opens afterwards."""
        self._closed = True
        await super().disconnect(inuse_connections)

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
    # redis-py before 8 has no way to look for data that does not wait for a turn of the event loop.
    reader: Any = connection._reader
    if reader is None or reader._buffer or reader.at_eof() or reader.exception() is not None:
        await connection.disconnect()
        await connection.connect()
