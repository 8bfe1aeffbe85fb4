"""A client of Redis for programs without an event loop.

It looks like ``redis.asyncio.Redis``, but its coroutines block the thread instead of suspending. So all other code of
this package is written once, and `complete` runs it to its end without an event loop.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar, cast

from redis import Redis as RedisOfThreads
from redis.asyncio import Redis
from redis.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from memory_worker.wire.blocking_connections import (
    BlockingPlainConnection,
    BlockingTlsConnection,
    BlockingUnixConnection,
    log_in_blocking,
)
from memory_worker.wire.blocking_pool import BackoffWithinLimit, BlockingPool
from memory_worker.wire.connection import RETRIES, Access, connection_options

_Result = TypeVar("_Result")

_CONNECTION_CLASSES: dict[type, type] = {
    Connection: BlockingPlainConnection,
    UnixDomainSocketConnection: BlockingUnixConnection,
}
"""Our connection classes, by the class that redis-py would use for the URL. All others have TLS."""


def complete(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("_Result", end.value)
    coroutine.close()
    raise RuntimeError("a request of a blocking client waited for an event loop")


def open_blocking_redis(url: str, *, access: Access, max_connections: int) -> Redis:
    """Return a client whose coroutines block. Nothing connects yet.

    Its waits end with the `memory_worker.wire.connection.Deadline` around them. Raises as `open_redis`.
    """
    options = connection_options(url, access, parse_url)
    plain_class = options.pop("connection_class", Connection)
    pool = BlockingPool(
        connection_class=_CONNECTION_CLASSES.get(plain_class, BlockingTlsConnection),
        max_connections=options.pop("max_connections", max_connections),
        redis_connect_func=log_in_blocking,
        **options,
    )
    # Retry when a connection has ended, because every script may run twice without harm.
    pool.connection_kwargs["retry"] = Retry(BackoffWithinLimit(pool.limits), RETRIES, (RedisConnectionError,))
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
