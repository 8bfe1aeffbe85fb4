"""How an embedded engine proves that it is the one that was started: it returns a nonce that only it was given.

Another program may listen on the port by the time we connect. So the question for the nonce is all that is sent before
the proof.
"""

from __future__ import annotations

import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"
TIMEOUT_S = 1.0
_MOST_BYTES = 65_536
_PART_BYTES = 4_096


def new_nonce() -> str:
    """Return a nonce. It looks like the hash of a commit, because that is where a vector engine returns it."""
    return secrets.token_hex(20)


def config_file(directory: Path, nonce: str) -> Path:
    """Return the configuration file of a Valkey. Its name holds the nonce, and Valkey returns its name."""
    return directory / f"{nonce}.conf"


def is_valkey(port: int, nonce: str) -> bool:
    """Say whether the Valkey with ``nonce`` is up on ``port`` and has loaded its data."""
    deadline = time.monotonic() + TIMEOUT_S
    with suppress(OSError), socket.create_connection((HOST, port), TIMEOUT_S) as connection:
        connection.sendall(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n")
        if not _receives(connection, f"/{nonce}.conf\r\n".encode(), deadline):
            return False
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        return _receives(connection, b"+PONG\r\n", deadline)
    return False


def _receives(connection: socket.socket, expected: bytes, deadline: float) -> bool:
    received = b""
    while expected not in received:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(_PART_BYTES)
        if not part or len(received) > _MOST_BYTES or received.startswith(b"-") or b"-LOADING" in part:
            return False
        received += part
    return True
