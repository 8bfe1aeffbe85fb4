"""Connections to Redis, and the one place where its errors become this project's.

Errors of scripts carry a word in front (``QUEUEFULL jobs 1000``) that says what they become.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from arq.connections import ArqRedis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.errors import ConfigurationError, LeaseLost, PartitionMismatch, QueueError, QueueFull, QueueUnavailable
from worker.queue.codec import decode_arq, encode_arq

RETRIES = 3

_REFUSALS = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
"""Refusals that redis-py gives a class of their own, having cut off the word that told them apart."""


def open_redis(url: str, *, timeout_s: float | None, max_connections: int = 1000) -> ArqRedis:
    """Return a pool of connections to ``url`` (``redis://``, ``rediss://`` or ``unix://``); nothing connects yet.

    ``timeout_s`` bounds each reply; ``None`` is for connections that wait on purpose. ``rediss://`` checks the
    certificate and the host name. Raises `ConfigurationError` for a URL that cannot be one.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s or 5.0,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        "max_connections": max_connections,
    }
    if url.startswith("rediss://"):
        options["ssl_check_hostname"] = True
    if url.startswith("unix://"):
        del options["socket_keepalive"]
    try:
        redis = cast("ArqRedis", ArqRedis.from_url(url, **options))
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from error
    redis.job_serializer = encode_arq
    redis.job_deserializer = decode_arq
    return redis


@contextmanager
def queue_errors() -> Iterator[None]:
    """Turn what Redis or its client raises into `QueueError`, `PartitionMismatch` or `QueueUnavailable`."""
    try:
        yield
    except _REFUSALS as error:
        raise QueueUnavailable(f"Redis refuses: {error}") from error
    except ResponseError as error:
        raise _of_response(str(error)) from error
    except (RedisError, OSError, TimeoutError) as error:
        raise QueueUnavailable(f"Redis: {error or type(error).__name__}") from error


def _of_response(message: str) -> Exception:
    match message.split():
        case ["QUEUEFULL", what, limit]:
            return QueueFull(what, int(limit))
        case ["PARTITIONS", actual]:
            return PartitionMismatch(None, int(actual))
        case ["LEASELOST", *_]:
            return LeaseLost("the lease on the partition is no longer held")
        case [("MISCONF" | "NOREPLICAS"), *_]:
            return QueueUnavailable(f"Redis refuses: {message}")
    return QueueError(f"Redis: {message}")
