"""A connection pool for programs without an event loop: safe for threads, and with the behaviour of `WaitingPool`.

Requests wait for a free connection until their time limit. When a connection shows signs of a wrong server, the pool
closes it and all idle connections.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

from redis.backoff import ExponentialBackoff
from redis.connection import ConnectionPool
from redis.exceptions import TimeoutError as RedisTimeoutError

from memory_worker.wire.blocking_connections import BlockingConnection
from memory_worker.wire.server_errors import is_out_of_room
from memory_worker.wire.time_limit import TimeLimit, remaining_s


class BackoffWithinLimit(ExponentialBackoff):
    """A backoff that never lasts longer than the time limit of the request."""

    def compute(self, failures: int) -> float:
        """Return the seconds to wait after so many failures."""
        delay_s = float(super().compute(failures))
        return min(delay_s, remaining_s() or delay_s)

    def __deepcopy__(self, _: object) -> BackoffWithinLimit:
        """Return the backoff itself, because redis-py copies it for each connection."""
        return self


class BlockingPool(ConnectionPool):
    """A pool in which threads wait until a connection is free, or until their time limit.

    When one of the ``linked`` pools finds a wrong server, the idle connections of all of them are closed. A pool is
    used only in the process that made it.
    """

    def __init__(self, **options: Any) -> None:
        # Sections use the lock and not the condition, because an exception of a signal handler cannot leave it locked.
        self._mutex = threading.RLock()
        self._changed = threading.Condition(self._mutex)
        self._idle: list[BlockingConnection] = []
        # Weak, because an exception of a signal handler may keep a connection from being released.
        self._used: WeakSet[BlockingConnection] = WeakSet()
        self._closed = False
        self.linked: list[BlockingPool] = [self]
        super().__init__(**options)

    def timeout(self, seconds: float) -> TimeLimit:
        """Return a context manager that raises ``TimeoutError`` if its body fails after this time."""
        return TimeLimit(seconds)

    def get_connection(self, *_: Any, **__: Any) -> BlockingConnection:
        """Return an open connection. The arguments are those of older versions of redis-py, and are ignored."""
        while True:
            connection = self._take()
            try:
                if not connection.is_usable():
                    connection.disconnect()
                    connection.connect()
            except BaseException as error:
                self._drop(connection)
                if not (is_out_of_room(error) and self._make_room()):
                    raise
            else:
                return connection

    def release(self, connection: Any) -> None:
        """Release a connection."""
        if connection.wrong_server:
            connection.wrong_server = False
            connection.disconnect()
            self._close_idle()
        with self._mutex:
            if not self._closed:
                self._used.discard(connection)
                self._idle.append(connection)
                self._changed.notify()
                return
        self._drop(connection)

    async def close_idle(self) -> None:
        """Close the idle connections of all linked pools."""
        self._close_idle()

    def disconnect(self, inuse_connections: bool = True) -> None:  # the signature of redis-py
        """Close the pool: the idle connections now, and the others when they are released."""
        del inuse_connections
        with self._mutex:
            self._closed = True
        self._close_idle()

    def _take(self) -> BlockingConnection:
        """Return an idle or a new connection, which may not be open. Raises redis-py's ``TimeoutError``."""
        with self._mutex:
            if not self._changed.wait_for(self._has_free, remaining_s()):
                raise RedisTimeoutError("no connection became free in time")
            connection = self._idle.pop() if self._idle else self.connection_class(**self.connection_kwargs)
            self._used.add(connection)
        return connection

    def _has_free(self) -> bool:
        return bool(self._idle) or len(self._used) < self.max_connections

    def _drop(self, connection: BlockingConnection) -> None:
        connection.disconnect()
        with self._mutex:
            self._used.discard(connection)
            self._changed.notify()

    def _make_room(self) -> bool:
        """Close an idle connection of a linked pool, or wait until one is released. Return whether to try again."""
        if self._close_idle():
            return True
        with self._mutex:
            return bool(self._used) and self._changed.wait(remaining_s())

    def _close_idle(self) -> int:
        """Close the idle connections of all linked pools. Return how many were open."""
        closed = 0
        for pool in self.linked:
            with pool._mutex:
                idle, pool._idle = pool._idle, []
            for connection in idle:
                closed += connection._sock is not None
                connection.disconnect()
        return closed
