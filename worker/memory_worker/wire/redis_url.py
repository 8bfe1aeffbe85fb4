"""What a Redis URL may say. Whatever is not honoured is refused, with the reason.

    redis://[[user]:password@]host[:port][/db][?option=value&...]      rediss:// is the same over TLS
    unix://[[user]:password@]/path/of/the/socket[?option=value&...]

Options: ``db``, ``client_name``, ``max_connections``, ``username`` and ``password``. ``retry_on_timeout`` and
``protocol`` (2 or 3) are accepted without effect, because URLs that are shared with other programs often contain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, urlsplit

from memory_worker.addresses import split_address
from memory_worker.contract.errors import ConfigurationError

LEAST_CONNECTIONS = 10
MOST_CONNECTIONS = 100_000

_SCHEMES = ("redis", "rediss", "unix")
_EXPECTED = "it must begin with redis://, rediss:// (TLS) or unix://"

_OURS = "it is set by the worker (REDIS_TIMEOUT_S) and by the client (timeout_s)"
_BYTES = "the queue reads and writes bytes"
_TLS = "rediss:// asks for TLS, and REDIS_TLS_CA_FILE and so on set it up"
_REASONS = {
    "retry_on_error": "what failed may have been done, and would then be done twice",
    "single_connection_client": "a connection that waits would hold up all others",
    "decode_responses": _BYTES,
    "encoding": _BYTES,
    "encoding_errors": _BYTES,
    "timeout": _OURS,
    "socket_timeout": _OURS,
    "socket_connect_timeout": _OURS,
    "socket_keepalive": _OURS,
    "health_check_interval": _OURS,
    "ssl": _TLS,
    "tls": _TLS,
    "sslmode": _TLS,
}
WITHOUT_EFFECT = ("protocol", "retry_on_timeout")
"""The queue always speaks RESP2. It never retries a request that timed out, which may still arrive."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def is_tls(url: str) -> bool:
    """Say whether the URL asks for TLS. Raises `ConfigurationError` unless all of its parts can be honoured."""
    parts = split_address("REDIS_URL", url, _SCHEMES, _EXPECTED)
    options = _options(parts)
    if parts.fragment:
        raise not_a_url("it contains a #, which is %23 in a password and has no meaning elsewhere")
    if parts.scheme == "unix":
        _check_socket(parts)
    else:
        _check_path(parts, options)
    return parts.scheme == "rediss"


def credentials(url: str) -> dict[str, str]:
    """Return user name and password in the options of a URL. Some versions of redis-py would decode them twice."""
    options = parse_qs(urlsplit(url).query)
    return {name: options[name][0] for name in ("username", "password") if name in options}


def not_a_url(why: str) -> ConfigurationError:
    """Return the error for a URL that cannot be used."""
    return ConfigurationError(f"REDIS_URL: {why}")


def _options(parts: SplitResult) -> dict[str, str]:
    try:
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise not_a_url("its options must be name=value, joined by &") from None
    for name, values in given.items():
        if name not in _CHECKS:
            shown = name if _NAME.fullmatch(name) else "one of its options"
            raise not_a_url(f"{shown} cannot be set here: {_reason(name)}")
        if len(values) > 1:
            raise not_a_url(f"{name} is given twice")
        if not _CHECKS[name](values[0]):
            raise not_a_url(f"{name} must be {_ALLOWED[name]}")
    return {name: values[0] for name, values in given.items()}


def _reason(name: str) -> str:
    if name.startswith("ssl_"):
        return _TLS
    return _REASONS.get(name, f"only {', '.join(_CHECKS)} can")


def _check_path(parts: SplitResult, options: dict[str, str]) -> None:
    database = parts.path.strip("/")
    if not re.fullmatch(r"(/\d{1,9})?/?", parts.path, re.ASCII):
        raise not_a_url("its path must be the number of a database, such as /1")
    if database and options.get("db", database) != database:
        raise not_a_url("it names two databases")


def _check_socket(parts: SplitResult) -> None:
    if parts.netloc.rpartition("@")[2]:
        raise not_a_url("a socket has no host: unix:///path/of/the/socket")
    if not parts.path.strip("/"):
        raise not_a_url("the path of the socket is missing")


def _number(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: text.isascii() and text.isdigit() and least <= int(text) <= most


_CHECKS: dict[str, Callable[[str], bool]] = {
    "db": _number(0, 999_999_999),
    "protocol": _number(2, 3),
    "client_name": lambda text: bool(re.fullmatch(r"[!-~]{1,100}", text)),
    "max_connections": _number(LEAST_CONNECTIONS, MOST_CONNECTIONS),
    "retry_on_timeout": lambda _: True,
    "username": bool,
    "password": bool,
}
_ALLOWED = {
    "db": "the number of a database",
    "protocol": "2 or 3",
    "client_name": "1 to 100 printable ASCII characters without blanks",
    "max_connections": f"a number from {LEAST_CONNECTIONS} to {MOST_CONNECTIONS}",
    "username": "given",
    "password": "given",
}
