"""Check a Redis URL. Every part that would have no effect is refused, with the reason.

    redis://[[user]:password@]host[:port][/db][?option=value&...]      rediss:// is the same over TLS
    unix://[[user]:password@]/path/of/the/socket[?option=value&...]

Options: ``db``, ``client_name``, ``max_connections``, ``username`` and ``password``. There are two exceptions:
``retry_on_timeout`` and ``protocol`` (2 or 3) are accepted without effect, because URLs that are shared with other
programs often contain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, urlsplit

from memory_worker.addresses import split_address
from memory_worker.contract.errors import ConfigurationError

_MIN_CONNECTIONS = 10
_MAX_CONNECTIONS = 100_000

_SCHEMES = ("redis", "rediss", "unix")
_EXPECTED = "it must begin with redis://, rediss:// (TLS) or unix://"

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


def is_tls(url: str) -> bool:
    """Return whether the URL asks for TLS. Raises `ConfigurationError` for a URL that cannot be used."""
    parts = split_address("REDIS_URL", url, _SCHEMES, _EXPECTED)
    options = _options(parts)
    if parts.fragment:
        raise invalid_url("it contains a #, which must be written as %23 in a password and has no meaning elsewhere")
    if parts.scheme == "unix":
        _check_socket(parts)
    else:
        _check_path(parts, options)
    return parts.scheme == "rediss"


def credentials(url: str) -> dict[str, str]:
    """Return the user name and password in the options of a URL. Some versions of redis-py would decode them twice."""
    options = parse_qs(urlsplit(url).query)
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
}
_ALLOWED = {
    "db": "the number of a database",
    "protocol": "2 or 3",
    "client_name": "1 to 100 printable ASCII characters without spaces",
    "max_connections": f"a number from {_MIN_CONNECTIONS} to {_MAX_CONNECTIONS}",
    "username": "non-empty",
    "password": "non-empty",
}
