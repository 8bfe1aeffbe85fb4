"""HTTP requests to a worker over a real socket, as a probe or Prometheus sends them."""

from __future__ import annotations

import http.client
import socket
from typing import Any, NamedTuple

import msgspec

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class Answer(NamedTuple):
    """Status, headers by their names in small letters, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def ask(port: int, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """Send a request on a new connection. In the names of headers, ``_`` stands for ``-``."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return _answer(connection.getresponse())
    finally:
        connection.close()


def ask_again(connection: http.client.HTTPConnection, path: str) -> Answer:
    """Send a request on a connection that is kept."""
    connection.request("GET", path)
    return _answer(connection.getresponse())


def send_raw(port: int, text: bytes) -> bytes:
    """Send any bytes, and return the answer of the server until it closes the connection."""
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as opened:
        opened.sendall(text)
        opened.shutdown(socket.SHUT_WR)
        found = b""
        while data := opened.recv(65_536):
            found += data
        return found


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
