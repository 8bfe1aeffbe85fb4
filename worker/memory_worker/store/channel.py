"""The gRPC channel to Qdrant."""

from __future__ import annotations

from pathlib import Path

import grpc

from memory_worker.addresses import split_address
from memory_worker.contract.errors import ConfigurationError

DEFAULT_PORT = 6334

CHANNEL_OPTIONS = [
    # Batches are limited in bytes before this point. Qdrant has no limit.
    ("grpc.max_send_message_length", -1),
    # Detect a silently dead connection within 15 s, and an engine that is back within 1 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name, the time limit of a connection attempt
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Channels do not share connections, so a new channel always opens a new connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # Send vectors and the API key to QDRANT_URL only. Ignore http_proxy and similar variables.
    ("grpc.enable_http_proxy", 0),
]

_SCHEMES = ("http", "https", "grpc", "grpcs")
_EXPECTED = "expected http://host:6334 (plain gRPC) or https://host:6334 (TLS)"


def open_channel(url: str, *, tls_ca_file: Path | None = None, max_answer_bytes: int = -1) -> grpc.aio.Channel:
    """Return a channel to ``url`` (``http://host:6334``, or ``https://`` for TLS). Nothing connects yet.

    An answer of more than ``max_answer_bytes`` is refused as soon as its first bytes show its size; -1 is no limit.
    Raises `ConfigurationError` for an invalid URL or an unreadable authority file.
    """
    target, secure = _target(url)
    if tls_ca_file and not secure:
        raise ConfigurationError("QDRANT_TLS_CA_FILE is given, but QDRANT_URL does not begin with https://")
    options = [*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", max_answer_bytes)]
    if not secure:
        return grpc.aio.insecure_channel(target, options=options)
    try:
        authority = tls_ca_file.read_bytes() if tls_ca_file else None
    except OSError as error:
        raise ConfigurationError(f"QDRANT_TLS_CA_FILE: {error}") from error
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(root_certificates=authority), options=options)


def _target(url: str) -> tuple[str, bool]:
    parts = split_address("QDRANT_URL", url, _SCHEMES, _EXPECTED)
    if "@" in parts.netloc:
        raise ConfigurationError("QDRANT_URL: it contains a user or a key; set the key with QDRANT_API_KEY")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError("QDRANT_URL: it must end with the port, because gRPC has no paths and no options")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or DEFAULT_PORT}", is_tls(url)


def is_tls(url: str) -> bool:
    """Say whether the connection to ``url`` is encrypted."""
    return url.lower().startswith(("https:", "grpcs:"))
