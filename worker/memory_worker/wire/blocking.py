"""A client of Redis for programs without an event loop.

It looks like ``redis.asyncio.Redis``, but its coroutines block the thread instead of suspending. So all other code of
this package is written once, and `memory_worker.wire.completing.complete` runs it.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Any, cast

from redis import Redis as RedisOfThreads
from redis.asyncio import Redis
from redis.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from memory_worker.wire.asking import found_by
from memory_worker.wire.blocking_connections import (
    BlockingPlainConnection,
    BlockingTlsConnection,
    BlockingUnixConnection,
    asking_blocking,
    log_in_blocking,
)
from memory_worker.wire.blocking_pool import BackoffWithinLimit, BlockingPool
from memory_worker.wire.connection import BACKOFF_S, RETRIES, Access, connection_options

_CONNECTION_CLASSES: dict[type, type] = {
    Connection: BlockingPlainConnection,
    UnixDomainSocketConnection: BlockingUnixConnection,
}
"""Our connection classes, by the class that redis-py would use for the URL. All others have TLS."""


def open_blocking_redis(url: str, *, access: Access, max_connections: int, prefix: str) -> Redis:
    """Return a client whose coroutines block. Nothing connects yet.

    Its waits end with the `memory_worker.wire.connection.Deadline` around them. Raises as `open_redis`.
    """
    options = connection_options(url, access, parse_url)
    connection_class = _CONNECTION_CLASSES.get(options.pop("connection_class", Connection), BlockingTlsConnection)
    pool = BlockingPool(
        connection_class=connection_class,
        max_connections=options.pop("max_connections", max_connections),
        redis_connect_func=log_in_blocking,
        **options,
    )
    # Retry when a connection has ended, because every script may run twice without harm.
    pool.connection_kwargs["retry"] = Retry(BackoffWithinLimit(**BACKOFF_S), RETRIES, (RedisConnectionError,))
    asking = partial(asking_blocking, connection_class)
    if primaries := found_by(url, prefix, pool.connection_kwargs, asking):
        pool.connection_kwargs["primaries"] = primaries
    return cast("Redis", _BlockingRedis(pool))


class _BlockingRedis:
    """The commands of ``redis.asyncio.Redis`` that this package uses."""

    def __init__(self, pool: BlockingPool) -> None:
        self.connection_pool = pool
        self._redis = RedisOfThreads(connection_pool=pool)

    async def execute_command(self, *args: Any) -> Any:
        return self._redis.execute_command(*args)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        return self._redis.execute_command("EVALSHA", sha, numkeys, *keys_and_args)

    async def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        return self._redis.execute_command("EVAL", script, numkeys, *keys_and_args)

    async def script_load(self, script: str) -> Any:
        return self._redis.script_load(script)

    async def time(self) -> Any:
        return self._redis.time()

    def pipeline(self, *, transaction: bool) -> _BlockingPipeline:
        return _BlockingPipeline(self._redis.pipeline(transaction=transaction))


class _BlockingPipeline:
    """The same for ``redis.asyncio.client.Pipeline``. Commands are queued by the methods of redis-py."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    async def __aenter__(self) -> _BlockingPipeline:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        return list(self._pipeline.execute(raise_on_error=raise_on_error))
