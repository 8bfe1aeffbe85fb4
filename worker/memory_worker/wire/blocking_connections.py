"""Connections for programs without an event loop. Each wait on a socket ends with the time limit of the request.

redis-py has one timeout for each wait. A request has one limit for all of them, which `Limits` knows.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

from redis.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from memory_worker.wire.server_errors import TurnedAway, indicates_wrong_server, keep_full_message

_SHORTEST_S = 0.001
"""The least time for a wait, because a socket takes 0 as "do not wait"."""


class TimeLimits(threading.local):
    """The time limit of the request that the current thread makes."""

    give_up_at: float | None = None

    def remaining_s(self) -> float | None:
        """Return the rest of the time in seconds, or ``None`` without a limit."""
        return None if self.give_up_at is None else max(_SHORTEST_S, self.give_up_at - time.monotonic())


def log_in_blocking(connection: AbstractConnection) -> None:
    """Log in on a connection that was just opened, as redis-py does."""
    try:
        connection.on_connect()
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError as error:
        raise TurnedAway(f"Redis accepts no more connections, or is shutting down: {error}") from error


def _as_text(command: Iterable[Any]) -> list[Any]:
    """Return a command without numbers.

    hiredis makes the interpreter crash if a signal handler raises while hiredis formats a number.
    """
    return [str(part) if type(part) is int else part for part in command]


class _LimitedSocket:
    """A socket whose operations end with the time limit of the thread that uses it."""

    def __init__(self, sock: Any, limits: TimeLimits) -> None:
        self._sock = sock
        self._limits = limits

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._sock.settimeout(self._limits.remaining_s())
        self._sock.sendall(data)

    def recv(self, *args: Any) -> bytes:
        """Receive some bytes."""
        self._sock.settimeout(self._limits.remaining_s())
        found: bytes = self._sock.recv(*args)
        return found

    def recv_into(self, *args: Any) -> int:
        """Receive some bytes into a buffer."""
        self._sock.settimeout(self._limits.remaining_s())
        received: int = self._sock.recv_into(*args)
        return received

    def settimeout(self, _: float | None) -> None:
        """Ignore the timeout of redis-py."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class BlockingConnection(AbstractConnection):
    """A connection that notices signs of a wrong server, and replies that were not read."""

    limits: TimeLimits
    wrong_server = False
    generation = 0
    _owed = 0

    def __init__(self, *, limits: TimeLimits, **options: Any) -> None:
        super().__init__(**options)
        self.limits = limits

    def _connect(self) -> Any:
        self._owed = 0
        self.socket_timeout = self.socket_connect_timeout = self.limits.remaining_s()
        return _LimitedSocket(super()._connect(), self.limits)  # type: ignore[safe-super]  # of the other base class

    def send_command(self, *args: Any, **options: Any) -> None:
        """Send one command."""
        super().send_command(*_as_text(args), **options)
        self._owed += 1

    def pack_commands(self, commands: Any) -> Any:
        """Pack the commands of a pipeline, which are then sent."""
        self._owed += len(commands)
        return super().pack_commands([_as_text(command) for command in commands])

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the reply to a command, as redis-py does."""
        try:
            found = super().read_response(*args, **options)
        except RedisError as error:
            self._owed -= 1
            keep_full_message(error)
            self.wrong_server = self.wrong_server or indicates_wrong_server(error)
            raise
        self._owed -= 1
        return found

    def is_usable(self) -> bool:
        """Return whether the connection is open, and nothing is left to read.

        An exception from outside, such as that of a signal handler, may have left a reply unread.
        """
        sock: Any = self._sock
        if sock is None or self._owed:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return not poll.poll(0)


class BlockingPlainConnection(BlockingConnection, Connection):
    """A TCP connection without TLS."""


class BlockingUnixConnection(BlockingConnection, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class _TlsConnection(Connection):
    """A connection with TLS by a given context. (redis-py has one way for this in each version.)"""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _connect(self) -> Any:
        sock = super()._connect()
        try:
            return self._context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise


class BlockingTlsConnection(BlockingConnection, _TlsConnection):
    """A TLS connection. All connections share one context, so that its files are read once."""
