"""Splits the address of a server, and refuses one that cannot mean what it says, by the name of its variable.

No error shows any of the address: it may hold a password.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from memory_worker.contract.errors import ConfigurationError

_NOT_IN_A_HOST = frozenset(";\"'<>\\^`{}|$%()*?!")


def split_address(variable: str, url: str, schemes: Collection[str], expected: str) -> SplitResult:
    """Return the parts of ``url``, whose host and port are known to be right.

    Raises `ConfigurationError` naming ``variable``, and saying what is ``expected`` where the scheme is another one.
    """

    def refused(why: str) -> ConfigurationError:
        return ConfigurationError(f"{variable}: {why}")

    if not url.strip():
        raise refused("it is empty")
    if url[0] in "\"'":
        raise refused("it is in quotes; docker run --env-file, for one, keeps them")
    if any(dead_letter.isspace() or not dead_letter.isprintable() for dead_letter in url):
        raise refused("it contains a blank or a control character; in a password, a blank is %20")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refused("it cannot be read") from None
    if parts.scheme not in schemes:
        raise refused(expected)
    if parts.netloc and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        # A part of the password would be taken for the host or the port, and be sent and shown as such.
        raise refused("user and password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40")
    if parts.scheme != "unix" and (problem := _host_problem(parts)):
        raise refused(problem)
    return parts


def _host_problem(parts: SplitResult) -> str | None:
    """Return what is wrong with the host and the port; ``None`` if nothing is."""
    host = parts.netloc.rpartition("@")[2]
    if "," in host:
        return "it names several hosts; exactly one is needed"
    if host.endswith(":"):
        return "the port is missing behind the colon"
    if not _has_port_in_range(parts):
        return "the port must be a number from 1 to 65535"
    if not parts.hostname:
        return "the host is missing"
    if not host.startswith("[") and _NOT_IN_A_HOST & set(parts.hostname):
        return "the host contains a character that no host name has; is a variable in it not filled in?"
    return None


def _has_port_in_range(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
