"""Check a Redis URL. Every part that would have no effect is refused, with the reason.

    redis://[[user]:password@]host[:port][/db][?option=value&...]      rediss:// is the same over TLS
    unix://[[user]:password@]/path/of/the/socket[?option=value&...]
    redis+sentinel://[[user]:password@]host[:26379][,host...]/service[/db][?option=value&...]
    redis+cluster://[[user]:password@]host[:6379][,host...][?option=value&...]

The hosts of the last two are Sentinels, or nodes of a cluster. ``rediss+sentinel`` and ``rediss+cluster`` use TLS for
all servers. User and password are those of Redis. Sentinels have their own: ``sentinel_username`` and
``sentinel_password``.

Options: ``db``, ``client_name``, ``max_connections``, ``username`` and ``password``. There are two exceptions:
``retry_on_timeout`` and ``protocol`` (2 or 3) are accepted without effect, because URLs that are shared with other
programs often contain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit

from memory_worker.addresses import split_address
from memory_worker.contract.errors import ConfigurationError
from memory_worker.wire.primaries import Address

_MIN_CONNECTIONS = 10
_MAX_CONNECTIONS = 100_000

_DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}
_SEVERAL_HOSTS = tuple(f"{scheme}+{kind}" for kind in _DEFAULT_PORTS for scheme in ("redis", "rediss"))
_SCHEMES = ("redis", "rediss", "unix", *_SEVERAL_HOSTS)
_EXPECTED = (
    "it must begin with redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster:// "
    "(with TLS: rediss+sentinel:// or rediss+cluster://)"
)

_TIMEOUT = "use REDIS_TIMEOUT_S for a worker, timeout_s for a client"
_FIXED = "its value is fixed"
_BYTES = "the queue reads and writes bytes"
_TLS = "TLS is switched on by rediss:// and configured by REDIS_TLS_CA_FILE and related settings"
_REASONS = {
    "retry_on_error": "a request that failed may have been executed, and a retry would execute it twice",
    "single_connection_client": "a request that waits on purpose would block all others",
    "decode_responses": _BYTES,
    "encoding": _BYTES,
    "encoding_errors": _BYTES,
    "timeout": _TIMEOUT,
    "socket_timeout": _TIMEOUT,
    "socket_connect_timeout": _TIMEOUT,
    "socket_keepalive": _FIXED,
    "health_check_interval": _FIXED,
    "ssl": _TLS,
    "tls": _TLS,
    "sslmode": _TLS,
}
WITHOUT_EFFECT = ("protocol", "retry_on_timeout")
"""The queue always speaks RESP2. It never retries a request that timed out, because Redis may still execute it."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_ONLY_SENTINEL = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Seeds:
    """The servers to ask for the primary: Sentinels that watch a ``service``, or nodes of a cluster (no service).

    ``username`` and ``password`` are those of Sentinels.
    """

    addresses: tuple[Address, ...]
    service: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def is_tls(url: str) -> bool:
    """Return whether the URL asks for TLS. Raises `ConfigurationError` for a URL that cannot be used."""
    parts, *_ = [split_address("REDIS_URL", one, _SCHEMES, _EXPECTED) for one in _urls_of_hosts(url)]
    options = _options(parts)
    if parts.fragment:
        raise invalid_url("it contains a #, which must be written as %23 in a password and has no meaning elsewhere")
    if parts.scheme == "unix":
        _check_socket(parts)
    elif parts.scheme.endswith("+sentinel"):
        _check_service(parts, options)
    else:
        _check_path(parts, options)
    if parts.scheme.endswith("+cluster") and (parts.path.strip("/0") or int(options.get("db", 0))):
        raise invalid_url("a Redis Cluster has only the database 0")
    return parts.scheme.startswith("rediss")


def seeds_of(url: str) -> Seeds | None:
    """Return the servers to ask for the primary, or ``None`` if the URL leads to Redis itself. It has been checked."""
    urls = [urlsplit(one) for one in _urls_of_hosts(url)]
    kind = urls[0].scheme.partition("+")[2]
    if not kind:
        return None
    options = dict(parse_qsl(urls[0].query))
    return Seeds(
        tuple(Address(str(one.hostname), one.port or _DEFAULT_PORTS[kind]) for one in urls),
        service=_service_and_database(urls[0].path)[0] if kind == "sentinel" else None,
        username=options.get("sentinel_username"),
        password=options.get("sentinel_password"),
    )


def redis_py_url(url: str) -> str:
    """Return the URL of one server with the same user, database and options. redis-py can read it."""
    parts = urlsplit(_urls_of_hosts(url)[0])
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return url
    options = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("sentinel_")]
    database = _service_and_database(parts.path)[1] if kind == "sentinel" else ""
    return parts._replace(scheme=scheme, path=f"/{database}", query=urlencode(options)).geturl()


def _urls_of_hosts(url: str) -> list[str]:
    """Return the same URL for each of its hosts."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in _SEVERAL_HOSTS:
        return [url]
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    login, at, hosts = place.rpartition("@")
    after = rest[len(place) :]
    return [f"{scheme}{separator}{login}{at}{host}{after}" for host in hosts.split(",")]


def credentials(url: str) -> dict[str, str]:
    """Return the user name and password in the options of a URL. Some versions of redis-py would decode them twice."""
    options = parse_qs(urlsplit(_urls_of_hosts(url)[0]).query)
    return {name: options[name][0] for name in ("username", "password") if name in options}


def invalid_url(problem: str) -> ConfigurationError:
    """Return the error for a URL that cannot be used."""
    return ConfigurationError(f"REDIS_URL: {problem}")


def _options(parts: SplitResult) -> dict[str, str]:
    try:
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise invalid_url("its options must be written as name=value and separated by &") from None
    for name, values in given.items():
        if name not in _CHECKS:
            shown = name if _NAME.fullmatch(name) else "one of its options"
            raise invalid_url(f"{shown} cannot be set here: {_reason(name)}")
        if len(values) > 1:
            raise invalid_url(f"{name} is given twice")
        if name in _ONLY_SENTINEL and not parts.scheme.endswith("+sentinel"):
            raise invalid_url(f"{name} has no meaning without redis+sentinel://")
        if not _CHECKS[name](values[0]):
            raise invalid_url(f"{name} must be {_ALLOWED[name]}")
    return {name: values[0] for name, values in given.items()}


def _reason(name: str) -> str:
    if name.startswith("ssl_"):
        return _TLS
    return _REASONS.get(name, f"the options are {', '.join(_CHECKS)}")


def _check_path(parts: SplitResult, options: dict[str, str]) -> None:
    database = parts.path.strip("/")
    if not re.fullmatch(r"(/\d{1,9})?/?", parts.path, re.ASCII):
        raise invalid_url("its path must be the number of a database, such as /1")
    if database and options.get("db", database) != database:
        raise invalid_url("it names two databases")


def _service_and_database(path: str) -> tuple[str, str]:
    service, _, database = path.removeprefix("/").partition("/")
    return service, database


def _check_service(parts: SplitResult, options: dict[str, str]) -> None:
    service, database = _service_and_database(parts.path)
    if not _SERVICE.fullmatch(service):
        raise invalid_url(
            "its path must begin with the name of the service that the Sentinels watch, such as /mymaster: "
            "letters, digits and . _ -"
        )
    _check_path(parts._replace(path=f"/{database}"), options)


def _check_socket(parts: SplitResult) -> None:
    if parts.netloc.rpartition("@")[2]:
        raise invalid_url("a socket has no host: write unix:///path/of/the/socket")
    if not parts.path.strip("/"):
        raise invalid_url("the path of the socket is missing")


def _number(minimum: int, maximum: int) -> Callable[[str], bool]:
    return lambda text: text.isascii() and text.isdigit() and minimum <= int(text) <= maximum


_CHECKS: dict[str, Callable[[str], bool]] = {
    "db": _number(0, 999_999_999),
    "protocol": _number(2, 3),
    "client_name": lambda text: bool(re.fullmatch(r"[!-~]{1,100}", text)),
    "max_connections": _number(_MIN_CONNECTIONS, _MAX_CONNECTIONS),
    "retry_on_timeout": lambda _: True,
    "username": bool,
    "password": bool,
    "sentinel_username": bool,
    "sentinel_password": bool,
}
_ALLOWED = {
    "db": "the number of a database",
    "protocol": "2 or 3",
    "client_name": "1 to 100 printable ASCII characters without spaces",
    "max_connections": f"a number from {_MIN_CONNECTIONS} to {_MAX_CONNECTIONS}",
    "username": "non-empty",
    "password": "non-empty",
    "sentinel_username": "non-empty",
    "sentinel_password": "non-empty",
}
