"""The proof that an embedded engine is the one that was started: it returns a nonce that only it knows.

Another program may listen on the port by now. So only the request for the nonce is sent before the proof.
"""

from __future__ import annotations

import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"
TIMEOUT_S = 1.0
_MAX_BYTES = 65_536
_PART_BYTES = 4_096


def new_nonce() -> str:
    """Return a nonce. It looks like the hash of a commit, because health checks of Qdrant return it as the commit."""
    return secrets.token_hex(20)


def config_file(directory: Path, nonce: str) -> Path:
    """Return the configuration file of a Valkey. Its name contains the nonce, and Valkey returns the name."""
    return directory / f"{nonce}.conf"


def is_valkey(port: int, nonce: str) -> bool:
    """Say whether the Valkey with ``nonce`` runs on ``port`` and has loaded its data."""
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
        if not part or len(received) > _MAX_BYTES or received.startswith(b"-") or b"-LOADING" in part:
            return False
        received += part
    return True
