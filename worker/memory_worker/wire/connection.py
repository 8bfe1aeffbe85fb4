"""Connections to Redis, and the one place where its errors become this project's.

Errors of scripts carry a word in front (``QUEUEFULL jobs 1000``) that says what they become.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from redis import __version__ as redis_version
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from memory_worker.coalesce import Coalescer
from memory_worker.contract.errors import (
    ConfigurationError,
    InvalidJob,
    LeaseLost,
    PartitionMismatch,
    QueueError,
    QueueFull,
    QueueNotEmpty,
    QueueOutOfMemory,
    QueueUnavailable,
    TooLate,
)
from memory_worker.wire.pool import PlainConnection, TlsConnection, UnixConnection, WaitingPool, log_in, said
from memory_worker.wire.redis_url import WITHOUT_EFFECT, credentials, is_tls, not_a_url

RETRIES = 3
_A_CLUSTER = "REDIS_URL leads to a node of a Redis Cluster, which cannot hold a queue; nothing was stored"

LATE_REPLY_S = 0.25
"""How much longer than Redis waits on purpose its caller waits for Redis to say so."""

_MEANINGS: dict[str, Callable[[Sequence[str]], Exception]] = {
    "LEASELOST": lambda _: LeaseLost(),
    "NOTEMPTY": lambda counts: QueueNotEmpty(*map(int, counts)),
    "PARTITIONS": lambda found: PartitionMismatch(None, int(found[0])),
    "QUEUEFULL": lambda limit: QueueFull(limit[0], int(limit[1])),
    "TOOLARGE": lambda sizes: InvalidJob("job", f"at most {int(sizes[1]):,} bytes are allowed, got {int(sizes[0]):,}"),
    "TOOLATE": lambda _: TooLate("the push came too late, and was not stored"),
}
"""What an error of a script becomes, by its first word, from those behind it."""

_UNAVAILABLE = frozenset(
    {
        *("BUSY", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "NOPERM", "NOREPLICAS", "READONLY"),
        *("REDIRECT", "TRYAGAIN", "UNBLOCKED"),
    }
)
"""First words of errors after which Redis, or another Redis, may accept the same request later."""

_OF_A_CLUSTER = frozenset({"ASK", "CLUSTERDOWN", "CROSSSLOT", "MOVED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How both sides show who they are: what is set overrides the URL, and is taken as it is,
    where a URL would percent-encode it.

    ``tls_ca_file`` is the authority that must have signed Redis's certificate, and the only one; ``None`` stands for
    those of the system. ``tls_cert_file`` and ``tls_key_file`` are this side's own certificate. All are PEM files.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca_file: Path | str | None = None
    tls_cert_file: Path | str | None = None
    tls_key_file: Path | str | None = None


MOST_COALESCED = 64
"""Scripts in one round trip, at most: none should wait for many others."""


class _CoalescingRedis(Redis):
    """Send scripts that are run at about the same time in one round trip. Each script remains its own atomic step."""

    def __init__(self, pool: WaitingPool) -> None:
        super().__init__(connection_pool=pool)
        self._scripts: Coalescer[tuple[Any, ...], Any] = Coalescer(self._run_scripts, most=MOST_COALESCED)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script that Redis has; as redis-py, but coalesced with others."""
        return await self._scripts.do(("EVALSHA", sha, numkeys, *keys_and_args))

    async def _run_scripts(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            return [await self.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        async with self.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))


_FROM_URL = Access()
_CLASSES: dict[type, type] = {Connection: PlainConnection, UnixDomainSocketConnection: UnixConnection}
"""What connections are made of, by what redis-py would make of the URL; TLS is the rest."""


def open_redis(url: str, *, timeout_s: float | None, access: Access = _FROM_URL, max_connections: int = 1000) -> Redis:
    """Return a pool of connections to ``url`` (``redis://``, ``rediss://`` or ``unix://``); nothing connects yet.

    ``timeout_s`` bounds each reply, and how long a request waits for a connection while all ``max_connections`` are in
    use; ``None`` is for connections that wait on purpose, until their caller gives up. ``rediss://`` checks the
    certificate and the host name. Raises `ConfigurationError`, which shows nothing of the URL, for one that cannot be
    one, and for files that cannot be used.
    """
    secure = _is_secure(url, access)
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s or 5.0,
        "socket_keepalive": True,
        # No health checks: redis-py's own, on a server that accepts but does not answer, connects again without end.
        "health_check_interval": 0,
        "wait_s": timeout_s,
        # Done again once a connection has ended, for every script does no harm when it is done twice. What timed out is
        # not: there is no time left.
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES, supported_errors=(RedisConnectionError,)),
        "retry_on_error": [RedisConnectionError],
        "max_connections": max_connections,
        "redis_connect_func": log_in,
    }
    if url.lower().startswith("unix:"):
        del options["socket_keepalive"]
    try:
        options |= parse_url(url) | credentials(url)
    except ValueError:
        raise not_a_url("host, port or an option is wrong") from None
    for name in WITHOUT_EFFECT:
        options.pop(name, None)
    # The replies of RESP2 look alike in every version of redis-py.
    pool = WaitingPool(**options, **_driver_info(), protocol=2)
    pool.connection_class = _CLASSES.get(pool.connection_class, TlsConnection)
    if secure:
        pool.connection_kwargs["context"] = _tls_context(access)
    for name, value in (("username", access.username), ("password", access.password)):
        if value is not None:
            pool.connection_kwargs[name] = value
    return _CoalescingRedis(pool)


def _driver_info() -> dict[str, Any]:
    """Return the option by which redis-py 8 need not read its own version from a file for each connection."""
    if find_spec("redis.driver_info") is None:
        return {}
    module: Any = import_module("redis.driver_info")
    return {"driver_info": module.DriverInfo(lib_version=redis_version)}


async def close_redis(redis: Redis) -> None:
    """Close all connections of the pool. It may be used again afterwards."""
    await redis.connection_pool.disconnect()


def belong_together(*opened: Redis) -> None:
    """Let pools to one Redis leave it together, once one of them finds that it is the wrong one."""
    pools = [_pool(redis) for redis in opened]
    for pool in pools:
        pool.together = pools


class Deadline:
    """Makes what is done inside (``async with``) raise `QueueUnavailable` when it takes longer than ``seconds``.

    Idle connections are closed then, for they lead to the same server. It may be entered again and again: ``left_s`` is
    what is left of the time.
    """

    def __init__(self, redis: Redis, seconds: float) -> None:
        self.left_s = seconds
        self._redis = redis
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(self.left_s)
        self._began = time.monotonic()
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left_s = max(0.0, self.left_s - (time.monotonic() - self._began))
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            await _pool(self._redis).close_idle()
            raise QueueUnavailable(f"Redis: no answer within {self._seconds:.3g} s") from error


def _pool(redis: Redis) -> WaitingPool:
    return cast("WaitingPool", redis.connection_pool)


def _is_secure(url: str, access: Access) -> bool:
    """Say whether the URL asks for TLS; raises `ConfigurationError` for one that cannot mean what it says."""
    secure = is_tls(url)
    if not secure and (access.tls_ca_file or access.tls_cert_file or access.tls_key_file):
        raise not_a_url("files for TLS are given, but it does not begin with rediss://")
    return secure


def _tls_context(access: Access) -> ssl.SSLContext:
    ca_file, cert_file, key_file = access.tls_ca_file, access.tls_cert_file, access.tls_key_file
    try:
        # Not ssl.create_default_context, which writes the keys of all connections to the file that SSLKEYLOGFILE names.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:
        raise ConfigurationError(f"REDIS_TLS_CA_FILE: {ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # not every build of Python says so by itself
    if cert_file or key_file:
        if not (cert_file and key_file):
            raise ConfigurationError("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE need each other")
        try:
            context.load_cert_chain(cert_file, key_file, password="")  # never ask for one at the terminal
        except OSError as error:
            files = f"{cert_file}, {key_file}"
            raise ConfigurationError(f"REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE: {files}: {error}") from error
    return context


_UNTIMED = nullcontext()


def request_timer(_command: str) -> AbstractContextManager[object]:
    """Time a request to Redis under its command; a worker replaces this by its metrics, which producers do not load."""
    return _UNTIMED


@contextmanager
def queue_request(command: str) -> Iterator[None]:
    """Time a request to Redis under the name ``command``, and turn errors as `queue_errors` does."""
    with request_timer(command), queue_errors():
        yield


@contextmanager
def queue_errors() -> Iterator[None]:
    """Turn what Redis or its client raises into an error of ours.

    That is `QueueUnavailable` for whatever may pass, `QueueError` for what Redis will never do, and what the words of
    scripts mean.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise QueueOutOfMemory(f"Redis is full: {said(error)}") from error
    except ResponseError as error:
        raise _of_response(said(error)) from error
    except (RedisError, OSError, TimeoutError) as error:
        raise QueueUnavailable(f"Redis: {error or type(error).__name__}") from error


def _of_response(message: str) -> Exception:
    first, *others = message.split() or [""]
    if first in _MEANINGS:
        return _MEANINGS[first](others)
    if first in _OF_A_CLUSTER:
        return QueueUnavailable(f"{_A_CLUSTER} ({message})")
    if first in _UNAVAILABLE:
        return QueueUnavailable(f"Redis refuses: {message}")
    return QueueError(f"Redis: {message}")
