"""A proxy that delays the network: a TCP server on 127.0.0.1 that forwards everything later, in each direction.

    python -m memory_worker.bench.delay DELAY_MS HOST:PORT

It writes ``ready PORT`` to standard error. There is one process for each target, so that they do not delay each other.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Self, cast
from urllib.parse import urlsplit, urlunsplit

import uvloop
from pydantic import SecretStr

from memory_worker.bench.processes import urls
from memory_worker.bench.timer import Line
from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import Settings

HOST = "127.0.0.1"
_ROUND_TRIPS, _TIMEOUT_S, _MOST_BYTES = 50, 30.0, 4096


def addresses(settings: Settings) -> list[str]:
    """Return the addresses of Redis and Qdrant. Raises `ConfigurationError` for TLS, which a proxy would break."""
    found = []
    for url, default_port in zip(urls(settings).values(), (6379, 6334), strict=True):
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "http", "grpc") or not parts.hostname:
            raise ConfigurationError("--delay-ms: a delay can be added to redis:// and http:// only")
        found.append(f"{parts.hostname}:{parts.port or default_port}")
    return found


def farther_away(settings: Settings, redis_port: str, qdrant_port: str) -> Settings:
    """Return settings that lead to Redis and Qdrant through these local ports."""
    parts = urlsplit(urls(settings)["Redis"])
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    redis_url = SecretStr(urlunsplit(parts._replace(netloc=f"{login}{HOST}:{redis_port}")))
    return settings.model_copy(update={"redis_url": redis_url, "qdrant_url": f"http://{HOST}:{qdrant_port}"})


def round_trip_ms(address: str) -> float:
    """Return the median time in which a Redis answers, if only with an error. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    times_s = []
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_ROUND_TRIPS):
            started = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(_MOST_BYTES)
            times_s.append(time.perf_counter() - started)
    return statistics.median(times_s) * 1000


class _End(asyncio.Protocol):
    """One end of a connection. What it receives is sent by the ``other`` end. Bandwidth is not limited."""

    def __init__(self, line: Line, other: _End | None = None) -> None:
        self._line, self._other, self._has_ended = line, other, False
        self._early: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._connecting: asyncio.Task[None] | None = None

    def connect(self, host: str, port: int) -> Self:
        """Begin to open the other end."""
        self._connecting = asyncio.create_task(self._connect(host, port))
        return self

    async def _connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self._other = await loop.create_connection(lambda: _End(self._line, self), host, port)
        except OSError:
            self.transport.abort()
            return
        for do, arguments in self._early:
            do(self._other, *arguments)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._line.later(self._pass_on, _End.send, data)

    def eof_received(self) -> bool:
        self._has_ended = True
        self._line.later(self._pass_on, _End.end)
        return True  # the other direction goes on

    def connection_lost(self, _: Exception | None) -> None:
        self._line.later(self._pass_on, _End.close)

    def _pass_on(self, do: Callable[..., None], *arguments: Any) -> None:
        if self._other is None:  # not connected yet
            self._early.append((do, arguments))
        else:
            do(self._other, *arguments)

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        if self._has_ended:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        self.transport.close()


async def _main(delay_ms: str, target: str) -> None:
    line, (host, _, port) = Line(float(delay_ms) / 1000), target.rpartition(":")
    server = await asyncio.get_running_loop().create_server(lambda: _End(line).connect(host, int(port)), HOST, 0)
    sys.stderr.write(f"ready {server.sockets[0].getsockname()[1]}\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
