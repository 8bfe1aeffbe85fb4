"""A pool of connections that is waited for, and that leaves a server which turns out to be the wrong one.

After a failover the address in the URL leads to another server. Connections that are open already stay with the old
one, and their requests would fail for ever. So a connection that shows a sign of it is closed, with all that are idle,
and the next request resolves the address anew.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from importlib.util import find_spec
from typing import Any, TypeAlias

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

HAS_HIREDIS = find_spec("hiredis") is not None
"""It is optional, and packs commands in a sixth of the time."""

if HAS_HIREDIS:
    import hiredis

_FIRST_WORDS: dict[type[RedisError], str] = {
    AskError: "ASK",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    ExecAbortError: "EXECABORT",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}
"""The first word of an error, by its class. redis-py removes that word from errors that have a class of their own.

Which errors have one depends on its version.
"""

_WRONG_SERVER = frozenset({"CLUSTERDOWN", "MASTERDOWN", "MOVED", "NOREPLICAS", "READONLY", "UNBLOCKED"})
"""First words of errors of a server that is not the primary, or no longer."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE)
"""Error numbers if this process, or this machine, may open no more files."""

_HAS_UNREAD = "can_read" if hasattr(AbstractConnection, "can_read") else "can_read_destructive"
"""The same method under the name of redis-py 8, and of the versions before."""

_Waiter: TypeAlias = "asyncio.Future[AbstractConnection | None]"


class _TurnedAway(RedisConnectionError):
    """A connection that was taken, and ended at once: Redis has too many."""


async def log_in(connection: AbstractConnection) -> None:
    """Log in on a connection that was opened, as redis-py does."""
    try:
        await connection.on_connect()
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError as error:
        raise _TurnedAway(f"Redis takes no more connections, or is going down: {error}") from error


class _Watching(AbstractConnection):
    """A connection that notices signs of a wrong server."""

    leads_astray = False

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it goes over the wire; its first argument may be several words."""
        if not HAS_HIREDIS:
            return super().pack_command(*args)
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the reply to a command; as redis-py."""
        try:
            return await super().read_response(*args, **options)
        except RedisError as error:
            vars(error)["said"] = _with_first_word(error)
            self.leads_astray = self.leads_astray or _is_sign(error)
            raise


def said(error: RedisError) -> str:
    """Return what Redis said: redis-py puts the command of a pipeline in front of it, with all that it holds."""
    return str(vars(error).get("said", error))


class PlainConnection(_Watching, Connection):
    """A connection in the clear."""


class UnixConnection(_Watching, UnixDomainSocketConnection):
    """A connection to a socket of this machine."""


class TlsConnection(_Watching, SSLConnection):
    """A connection by a context that is made, and its files read, once for all connections."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


class WaitingPool(ConnectionPool):
    """Gives a connection to those who ask, in turn; who finds none free waits for one.

    A wait ends after ``wait_s`` seconds with an error; ``None``: its caller ends it. ``together`` are the pools whose
    idle connections are closed when one of them finds a wrong server.
    """

    def __init__(self, *args: Any, wait_s: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.together: list[WaitingPool] = [self]
        self._wait_s = wait_s
        self._waiting: deque[_Waiter] = deque()

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """Return a connection that is open. The arguments of older versions of redis-py are not needed."""
        given: AbstractConnection | None = None
        while True:
            connection = given or self._idle_or_new() or await self._next_free()
            if connection is None:
                continue
            try:
                await _connect(connection)
            except BaseException as error:
                await connection.disconnect(nowait=True)
                self._in_use_connections.discard(connection)
                if not (_lacks_room(error) and await self._has_others()):
                    self._hand_on(None)
                    raise
            else:
                return connection
            in_use_only = self._in_use_connections and not self._available_connections
            given = await self._next_free() if in_use_only else None

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back; whoever waits longest gets it."""
        if isinstance(connection, _Watching) and connection.leads_astray:
            connection.leads_astray = False
            await connection.disconnect(nowait=True)
            await self.close_idle()
        self._pass_on(connection)

    async def close_idle(self, *, for_room: bool = False) -> int:
        """Close the connections that nobody uses now, in all pools that belong together; return how many.

        ``for_room``: each pool keeps one, and the others are closed when this returns.
        """
        closed = []
        for pool in self.together:
            closed += pool._available_connections[int(for_room) :]
            del pool._available_connections[int(for_room) :]
        for connection in closed:
            await connection.disconnect(nowait=not for_room)
        return len(closed)

    async def _has_others(self) -> bool:
        """Say whether there are other connections than the one that could not be opened, or room for one by now."""
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
        """Wait for a connection that is given back; ``None``: one may be opened now."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # it was given one in the same moment
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"no connection became free within {self._wait_s:g} s") from None
            raise

    def _pass_on(self, connection: AbstractConnection | None) -> None:
        if not self._hand_on(connection) and connection is not None:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)

    def _hand_on(self, connection: AbstractConnection | None) -> bool:
        """Give a connection, or leave to open one, to whoever waits longest; say whether anybody waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False


async def _connect(connection: AbstractConnection) -> None:
    """Connect if needed. A connection with unread data, or one that the server closed, is opened anew."""
    await connection.connect()
    try:
        usable = not await getattr(connection, _HAS_UNREAD)()
    except (RedisConnectionError, RedisTimeoutError, OSError):
        usable = False
    if not usable:
        await connection.disconnect()
        await connection.connect()


def _is_sign(error: RedisError) -> bool:
    """Say whether this is a sign of a wrong server; one that hangs may be one that nobody leads to any more."""
    if isinstance(error, (BusyLoadingError, RedisTimeoutError)):
        return True
    return isinstance(error, ResponseError) and said(error).partition(" ")[0] in _WRONG_SERVER


def _with_first_word(error: RedisError) -> str:
    word, text = _FIRST_WORDS.get(type(error)), str(error)
    return f"{word} {text}" if word and not text.startswith(f"{word} ") else text


def _lacks_room(error: BaseException) -> bool:
    """Say whether one connection less might help: Redis has too many, or this process has too many open files."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _TurnedAway) or (isinstance(cause, OSError) and cause.errno in _NO_ROOM):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
