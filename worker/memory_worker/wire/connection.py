"""Open connections to Redis, and map its errors to the errors of this project. This is the only place that does so.

An error of a script begins with a word, as in ``QUEUEFULL jobs 1000``, that decides what it is mapped to.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

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
    NotPaused,
    PartitionMismatch,
    QueueError,
    QueueFull,
    QueueNotEmpty,
    QueueOutOfMemory,
    QueuePaused,
    QueueUnavailable,
    TooLate,
)
from memory_worker.tracing import requesting
from memory_worker.wire.asking import asking, found_by
from memory_worker.wire.pool import (
    PlainConnection,
    TlsConnection,
    UnixConnection,
    WaitingPool,
    log_in,
)
from memory_worker.wire.redirections import REDIRECTIONS
from memory_worker.wire.redis_url import WITHOUT_EFFECT, credentials, invalid_url, is_tls, redis_py_url
from memory_worker.wire.server_errors import full_message

RETRIES = 3
BACKOFF_S = {"base": 0.05, "cap": 0.5}
"""The first and the longest wait before a retry."""
CONNECT_TIMEOUT_S = 5.0
"""The most time to connect, if the caller gives no other limit."""

LATE_REPLY_S = 0.25
"""How long a caller waits beyond the timeout of a blocking command, so that the reply can arrive."""

_SCRIPT_ERRORS: dict[str, Callable[[Sequence[str]], Exception]] = {
    "LEASELOST": lambda _: LeaseLost(),
    "NOTPAUSED": lambda leased: NotPaused([*map(int, leased)]),
    "NOTEMPTY": lambda counts: QueueNotEmpty(*map(int, counts)),
    "PAUSED": lambda _: QueuePaused(),
    "PARTITIONS": lambda found: PartitionMismatch(None, int(found[0])),
    "QUEUEFULL": lambda limit: QueueFull(limit[0], int(limit[1])),
    "TOOLARGE": lambda sizes: InvalidJob("job", f"at most {int(sizes[1]):,} bytes are allowed, got {int(sizes[0]):,}"),
    "TOOLATE": lambda _: TooLate("the push reached Redis too late and was not stored"),
}
"""The errors of scripts, by their first word. Each function takes the words after it."""

_TEMPORARY_ERRORS = frozenset(
    {
        *("BUSY", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "NOPERM", "NOREPLICAS", "READONLY"),
        *("REDIRECT", "UNBLOCKED"),
        *REDIRECTIONS,
    }
)
"""First words of errors after which Redis, or another Redis, may accept the same request later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Credentials and certificates for Redis. User name and password override those in the URL.

    They are used as they are, not percent-decoded. ``tls_ca_file`` is the only authority that may sign Redis's
    certificate; ``None`` means the authorities of the system. ``tls_cert_file`` and ``tls_key_file`` are the client
    certificate. All of these are PEM files.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca_file: Path | str | None = None
    tls_cert_file: Path | str | None = None
    tls_key_file: Path | str | None = None


MAX_COALESCED = 64
"""The most scripts in one round trip. With more of them, each would wait too long for the others."""


class _CoalescingRedis(Redis):
    """A client that sends scripts in one round trip if they are run at about the same time.

    Each script remains its own atomic step.
    """

    def __init__(self, pool: WaitingPool) -> None:
        super().__init__(connection_pool=pool)
        self._scripts: Coalescer[tuple[Any, ...], Any] = Coalescer(self._run_scripts, max_items=MAX_COALESCED)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script that Redis has loaded, together with other scripts."""
        return await self._scripts.do(("EVALSHA", sha, numkeys, *keys_and_args))

    async def _run_scripts(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            return [await self.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        async with self.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))


NO_ACCESS = Access()
_CONNECTION_CLASSES: dict[type, type] = {Connection: PlainConnection, UnixDomainSocketConnection: UnixConnection}
"""Our connection classes, by the class that redis-py would use for the URL. All others become `TlsConnection`."""


def open_redis(
    url: str, *, timeout_s: float | None, access: Access = NO_ACCESS, max_connections: int = 1000, prefix: str = "mw"
) -> Redis:
    """Return a client with its own connection pool for ``url`` (see `memory_worker.wire.redis_url`).

    Nothing connects yet. In a cluster, ``prefix`` decides which node has the queue. ``timeout_s`` bounds the wait for
    each reply, and the wait for a connection while all ``max_connections`` are in use. ``None`` is for blocking
    commands: each wait lasts until the caller gives up. TLS checks the certificate and the host name. Raises
    `ConfigurationError` for a URL, a prefix or a file that cannot be used. The error shows no part of the URL.
    """
    options = connection_options(url, access, parse_url)
    connection_class = _CONNECTION_CLASSES.get(options.pop("connection_class", Connection), TlsConnection)
    pool = WaitingPool(
        connection_class=connection_class,
        max_connections=options.pop("max_connections", max_connections),
        wait_s=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s or CONNECT_TIMEOUT_S,
        # Retry when a connection has ended, because every script may run twice without harm. After a timeout there is
        # no time left to retry.
        retry=Retry(ExponentialBackoff(**BACKOFF_S), RETRIES, supported_errors=(RedisConnectionError,)),
        redis_connect_func=log_in,
        **options,
    )
    if primaries := found_by(url, prefix, pool.connection_kwargs, partial(asking, connection_class)):
        pool.connection_kwargs["primaries"] = primaries
    return _CoalescingRedis(pool)


def connection_options(url: str, access: Access, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return the options of connections to ``url`` that do not depend on how they wait for replies.

    ``parse`` is redis-py's ``parse_url`` for these connections. Raises `ConfigurationError`.
    """
    secure = _is_secure(url, access)
    options: dict[str, Any] = {
        "socket_keepalive": True,
        # No health checks: if a server accepts connections but does not answer, redis-py reconnects without end.
        "health_check_interval": 0,
        "retry_on_error": [RedisConnectionError],
    }
    if url.lower().startswith("unix:"):
        del options["socket_keepalive"]
    try:
        options |= parse(redis_py_url(url)) | credentials(url)
    except ValueError:
        raise invalid_url("host, port or an option is wrong") from None
    for name in WITHOUT_EFFECT:
        options.pop(name, None)
    # The replies of RESP2 look alike in every version of redis-py.
    return {**options, **_driver_info(), **_access_options(access, secure=secure), "protocol": 2}


def _access_options(access: Access, *, secure: bool) -> dict[str, Any]:
    login = {"username": access.username, "password": access.password}
    options: dict[str, Any] = {name: value for name, value in login.items() if value is not None}
    return {**options, "context": _tls_context(access)} if secure else options


def _driver_info() -> dict[str, Any]:
    """Return the option by which redis-py 8 need not read its own version from a file for each connection."""
    if find_spec("redis.driver_info") is None:
        return {}
    module: Any = import_module("redis.driver_info")
    return {"driver_info": module.DriverInfo(lib_version=redis_version)}


async def close_redis(redis: Redis) -> None:
    """Close all connections of the pool. Those that a request opens afterwards are closed when it ends."""
    await redis.connection_pool.disconnect()


def link_pools(*clients: Redis) -> None:
    """Link pools that lead to the same Redis. When one finds a wrong server, all close their idle connections."""
    pools = [_pool(redis) for redis in clients]
    for pool in pools:
        pool.linked = pools


class Deadline:
    """A context manager that raises `QueueUnavailable` if its body takes longer than ``seconds``.

    Idle connections are then closed, because they lead to the same server. A deadline may be entered several times:
    ``remaining_s`` is the time that is left for all further entries.
    """

    def __init__(self, redis: Redis, seconds: float) -> None:
        self.remaining_s = seconds
        self._redis = redis
        self._seconds = seconds

    @property
    def left_s(self) -> float:
        """The seconds that are left for the current entry."""
        return max(0.0, self.remaining_s - (time.monotonic() - self._began))

    async def __aenter__(self) -> Self:
        self._timeout = _pool(self._redis).timeout(self.remaining_s)
        self._began = time.monotonic()
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remaining_s = self.left_s
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            await _pool(self._redis).close_idle()
            raise QueueUnavailable(f"Redis: no answer within {self._seconds:.3g} s") from error


def _pool(redis: Redis) -> WaitingPool:
    return cast("WaitingPool", redis.connection_pool)


def _is_secure(url: str, access: Access) -> bool:
    """Return whether the URL asks for TLS. Raises `ConfigurationError` for a URL that cannot be used."""
    secure = is_tls(url)
    if not secure and (access.tls_ca_file or access.tls_cert_file or access.tls_key_file):
        raise invalid_url("files for TLS are given, but it does not begin with rediss://")
    return secure


def _tls_context(access: Access) -> ssl.SSLContext:
    ca_file, cert_file, key_file = access.tls_ca_file, access.tls_cert_file, access.tls_key_file
    try:
        # ssl.create_default_context would write the keys of all connections to the file in SSLKEYLOGFILE.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:
        raise ConfigurationError(f"REDIS_TLS_CA_FILE: {ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # not every build of Python has this default
    if cert_file or key_file:
        if not (cert_file and key_file):
            raise ConfigurationError("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE need each other")
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as error:
            files = f"{cert_file}, {key_file}"
            raise ConfigurationError(f"REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE: {files}: {error}") from error
    return context


_UNTIMED = nullcontext()


def request_timer(_command: str) -> AbstractContextManager[object]:
    """Measure the time of a request to Redis. Workers replace this function with one that records metrics."""
    return _UNTIMED


@contextmanager
def queue_request(command: str) -> Iterator[None]:
    """Measure and trace a request under the name ``command``, and map its errors as `queue_errors` does."""
    with requesting("redis", command), request_timer(command), queue_errors():
        yield


@contextmanager
def queue_errors() -> Iterator[None]:
    """Map what redis-py raises to the errors of this project.

    Temporary errors become `QueueUnavailable`, permanent ones `QueueError`. Errors of scripts become the error that
    their first word stands for.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise QueueOutOfMemory(f"Redis is full: {full_message(error)}") from error
    except ResponseError as error:
        raise _map_response(full_message(error)) from error
    except (RedisError, OSError, TimeoutError) as error:
        raise QueueUnavailable(f"Redis: {str(error) or type(error).__name__}") from error


def _map_response(message: str) -> Exception:
    first, *others = message.split() or [""]
    if first in _SCRIPT_ERRORS:
        return _SCRIPT_ERRORS[first](others)
    if first in _TEMPORARY_ERRORS:
        return QueueUnavailable(f"Redis refuses: {message}")
    return QueueError(f"Redis: {message}")
