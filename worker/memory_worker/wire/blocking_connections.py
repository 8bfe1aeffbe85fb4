"""Connections for programs without an event loop. Each wait on a socket ends with the time limit of the request.

redis-py has one timeout for each wait. A request has one `memory_worker.wire.time_limit` for all of them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from redis.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from memory_worker.wire.asking import ASK_TIMEOUT_S
from memory_worker.wire.completing import complete
from memory_worker.wire.primaries import Address, Ask, Primaries
from memory_worker.wire.server_errors import TurnedAway, indicates_wrong_server, keep_full_message
from memory_worker.wire.time_limit import TimeLimit, remaining_s


def log_in_blocking(connection: BlockingConnection) -> None:
    """Log in on a connection that was just opened, as redis-py does. Check that it leads to a primary."""
    try:
        connection.on_connect()
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError as error:
        raise TurnedAway(f"Redis accepts no more connections, or is shutting down: {error}") from error
    if connection.primaries is not None:
        connection.send_command("ROLE")
        server = Address(connection.host, connection.port)
        if problem := connection.primaries.check_role(server, connection.read_response()):
            raise RedisConnectionError(problem)


def asking_blocking(connection_class: type[BlockingConnection], options: Mapping[str, Any]) -> Ask:
    """Return a function that asks over connections of this class with these options, within the time limit."""

    async def ask(host: str, port: int, *command: str) -> Any:
        async with TimeLimit(min(ASK_TIMEOUT_S, remaining_s() or ASK_TIMEOUT_S)):
            connection = connection_class(**{**options, "host": host, "port": port})
            try:
                connection.connect()
                connection.send_command(*command)
                return connection.read_response()
            finally:
                connection.disconnect()

    return ask


def _as_text(command: Iterable[Any]) -> list[Any]:
    """Return a command without numbers.

    hiredis makes the interpreter crash if a signal handler raises while hiredis formats a number.
    """
    return [str(part) if type(part) is int else part for part in command]


class _LimitedSocket:
    """A socket whose operations end with the time limit of the request.

    redis-py sets a timeout of 0 to look for data without waiting. Its other timeouts have no effect.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._waits = True

    def settimeout(self, seconds: float | None) -> None:
        """Wait until the time limit from now on, or not at all if ``seconds`` is 0."""
        self._waits = seconds != 0

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._limit()
        self._sock.sendall(data)

    def recv(self, *args: Any) -> bytes:
        """Receive some bytes."""
        self._limit()
        found: bytes = self._sock.recv(*args)
        return found

    def recv_into(self, *args: Any) -> int:
        """Receive some bytes into a buffer."""
        self._limit()
        received: int = self._sock.recv_into(*args)
        return received

    def _limit(self) -> None:
        self._sock.settimeout(remaining_s() if self._waits else 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class BlockingConnection(AbstractConnection):
    """A connection that notices signs of a wrong server, and replies that were not read.

    With ``primaries`` it leads to the server that they find.
    """

    host: str
    port: int
    wrong_server = False
    _owed = 0

    def __init__(self, *, primaries: Primaries | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.primaries = primaries

    @property
    def socket_timeout(self) -> float | None:
        """How long to wait for a connection to each address of the host, for a TLS handshake, or for a reply."""
        return remaining_s()

    @socket_timeout.setter
    def socket_timeout(self, _: float | None) -> None:
        """Ignore the value of redis-py."""

    socket_connect_timeout = socket_timeout

    def _connect(self) -> Any:
        self._owed = 0
        if self.primaries is not None:
            self.host, self.port = complete(self.primaries.find())
        try:
            sock = super()._connect()  # type: ignore[safe-super]  # of the other base class
        except BaseException:
            self._suspect()
            raise
        return _LimitedSocket(sock)

    def _suspect(self) -> None:
        if self.primaries is not None:
            self.primaries.suspect()

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
            keep_full_message(error, finds=self.primaries is not None)
            if indicates_wrong_server(error):
                self.wrong_server = True
                self._suspect()
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
        try:
            return not self.can_read(timeout=0)
        except (RedisError, OSError):  # the server has closed it
            return False


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
