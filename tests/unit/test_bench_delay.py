"""The network that is farther away: everything arrives later, and otherwise the same."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from memory_worker.bench.delay import HOST, addresses, farther_away, round_trip_ms
from memory_worker.bench.processes import Process
from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import load_settings

DELAY_S = 0.01


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """The local ports of two delay proxies. The first leads to an echo server, the second to a closed port."""
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as far, socket.create_server((HOST, 0)) as unused:
        threading.Thread(target=far.serve_forever, daemon=True).start()
        targets = [f"{HOST}:{port}" for port in (far.server_address[1], unused.getsockname()[1])]
        unused.close()
        command = ("memory_worker.bench.delay", str(DELAY_S * 1000))
        proxies = [Process("", load_settings(), *command, target) for target in targets]
        try:
            echo, closed = (asyncio.run(proxy.ready()).split()[1] for proxy in proxies)
            yield int(echo), int(closed)
        finally:
            for proxy in proxies:
                asyncio.run(proxy.end())
            far.shutdown()


def test_a_round_trip_takes_the_delay_twice(ports: tuple[int, int]) -> None:
    with socket.create_connection((HOST, ports[0]), timeout=20) as connection:
        for _ in range(5):
            started = time.monotonic()
            connection.sendall(b"ping")
            assert connection.recv(4, socket.MSG_WAITALL) == b"ping"
            assert time.monotonic() - started >= 2 * DELAY_S
    assert round_trip_ms(f"{HOST}:{ports[0]}") >= 2000 * DELAY_S


def test_many_connections_do_not_mix(ports: tuple[int, int]) -> None:
    connections = [socket.create_connection((HOST, ports[0]), timeout=20) for _ in range(20)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%04d" % number)  # at once: the proxy is not connected yet
    assert [int(connection.recv(4, socket.MSG_WAITALL)) for connection in connections] == [*range(20)]
    for connection in connections:
        connection.close()


def test_much_data_arrives_whole_and_in_order_with_the_end_behind_it(ports: tuple[int, int]) -> None:
    sent = b"".join(number.to_bytes(4, "big") for number in range(250_000))
    with socket.create_connection((HOST, ports[0]), timeout=20) as connection, connection.makefile("rb") as received:
        threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR))).start()
        assert received.read() == sent


def test_a_connection_to_nobody_ends(ports: tuple[int, int]) -> None:
    with socket.create_connection((HOST, ports[1]), timeout=20) as connection, suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def test_both_servers_are_reached_through_the_delay(tmp_path: Path) -> None:
    urls = {"redis_url": "redis://user:secret@redis.example/3", "qdrant_url": "http://qdrant.example:7334"}
    settings = load_settings(**urls, data_dir=tmp_path)
    assert addresses(settings) == ["redis.example:6379", "qdrant.example:7334"]
    away = farther_away(settings, "1001", "1002")
    assert away.redis_url is not None
    assert away.redis_url.get_secret_value() == "redis://user:secret@127.0.0.1:1001/3"
    assert away.qdrant_url == "http://127.0.0.1:1002"


@pytest.mark.parametrize(
    ("redis_url", "qdrant_url"),
    [("rediss://127.0.0.1:1", "http://127.0.0.1:1"), ("redis://127.0.0.1:1", "https://127.0.0.1:1")],
)
def test_tls_cannot_be_delayed(redis_url: str, qdrant_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--delay-ms"):
        addresses(load_settings(redis_url=redis_url, qdrant_url=qdrant_url, data_dir=tmp_path))
