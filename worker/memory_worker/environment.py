"""Reads the values of settings from environment variables, and from the files that such variables name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from memory_worker.errors import ConfigurationError

MOST_BYTES = 65_536
"""A file that holds a secret is not larger."""

_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def texts(environment: Mapping[str, str], names: Collection[str], as_they_are: Collection[str]) -> dict[str, str]:
    """Return what the variables ``names`` hold, without blanks at both ends; those that hold nothing are left out.

    Of a value ``as_they_are`` only line ends are dropped: a password may end with a blank.
    """
    found = {}
    for name in names:
        if name in environment:
            text = _stripped(name, environment[name], whole=name in as_they_are)
            if text.strip():
                found[name] = text
    return found


def secret_in(variable: str, path: Path, *, as_it_is: bool) -> str:
    """Return what the file holds, without a byte order mark and line ends, and without blanks unless ``as_it_is``.

    Raises `ConfigurationError` naming ``variable`` for a file that cannot be read or that holds nothing.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}: {path} is not UTF-8 text") from None
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"{variable}: {path} is larger than {MOST_BYTES} bytes")
    secret = _stripped(variable, text, whole=as_it_is)
    if not secret.strip():
        raise ConfigurationError(f"{variable}: {path} is empty")
    return secret


def _stripped(variable: str, text: str, *, whole: bool) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError(f"{variable}: it is not UTF-8 text") from None
    text = text.removeprefix(_BYTE_ORDER_MARK)
    return text.strip("\r\n") if whole else text.strip()
