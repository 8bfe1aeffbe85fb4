"""Split and check the address of a server. Errors name its variable.

No error shows any part of the address, because it may contain a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from memory_worker.contract.errors import ConfigurationError

_FORBIDDEN_IN_HOST = frozenset(";\"'<>\\^`{}|$%()*?!")


def split_address(variable: str, url: str, schemes: Collection[str], expected: str) -> SplitResult:
    """Return the parts of ``url``. Its scheme, host and port have been checked.

    Raises `ConfigurationError`, which names ``variable``. For a scheme that is not in ``schemes`` the error says
    ``expected``.
    """

    def refused(problem: str) -> ConfigurationError:
        return ConfigurationError(f"{variable}: {problem}")

    if not url.strip():
        raise refused("it is empty")
    if url[0] in "\"'":
        raise refused("it is in quotes; docker run --env-file, for example, keeps them")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise refused("it contains a space or a control character; in a password, write %20 for a space")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refused("it is not a URL") from None
    if parts.scheme not in schemes:
        raise refused(expected)
    if parts.netloc and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        # Part of the password would be taken for the host or the port. It would be sent and shown.
        raise refused("user and password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40")
    if parts.scheme != "unix" and (problem := _host_problem(parts)):
        raise refused(problem)
    return parts


def without_credentials(url: str) -> str:
    """Return an address without user, password and options. ``urlsplit`` may refuse one with several hosts."""
    scheme, separator, rest = url.partition("://")
    place = re.split("[?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme.lower()}{separator}{place}" if separator else ""


def _host_problem(parts: SplitResult) -> str | None:
    """Return what is wrong with the host or the port, or ``None`` if both are valid."""
    host = parts.netloc.rpartition("@")[2]
    if "," in host:
        return "it names several hosts, but exactly one is needed"
    if host.endswith(":"):
        return "the port after the colon is missing"
    if not _has_port_in_range(parts):
        return "the port must be a number from 1 to 65535"
    if not parts.hostname:
        return "the host is missing"
    if not host.startswith("[") and _FORBIDDEN_IN_HOST & set(parts.hostname):
        return "the host contains a character that is not allowed in host names; was a variable not replaced?"
    return None


def _has_port_in_range(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
