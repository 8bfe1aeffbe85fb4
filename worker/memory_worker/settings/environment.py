"""Reads the values of settings from environment variables, and from the files that such variables name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from memory_worker.contract.errors import ConfigurationError

MOST_BYTES = 65_536
"""A file that holds a secret is not larger."""

_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

_AS_THEY_ARE = frozenset({"REDIS_USERNAME", "REDIS_PASSWORD"})
"""Secrets of which blanks are a part: only line ends are dropped."""


def texts(environment: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Return what the variables ``names`` hold, without blanks at both ends; those that hold nothing are left out."""
    found = {}
    for name in names:
        if name in environment:
            text = _stripped(name, environment[name], whole=name in _AS_THEY_ARE)
            if text.strip():
                found[name] = text
    return found


def refuse_empty_addresses(
    environment: Mapping[str, str], given: Mapping[str, str], overrides: Mapping[str, Any]
) -> None:
    """Refuse an address that was not filled in: with an embedded engine instead, jobs would wait elsewhere for ever.

    ``given`` are the variables that hold anything. Raises `ConfigurationError`.
    """
    for field, files in (("redis_url", ["REDIS_URL_FILE"]), ("qdrant_url", [])):
        names = [field.upper(), *files]
        empty = [name for name in names if name in environment]
        if field not in overrides and empty and not any(name in given for name in names):
            raise ConfigurationError(f"{empty[0]}: it is set, but empty; unset it to use an embedded engine")


def secrets_from_files(given: Mapping[str, str], files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return by field name what files such as those of Docker secrets hold, and the variables that name them.

    ``files`` has the field for each variable that may name a file. Raises `ConfigurationError`.
    """
    found, origins = {}, {}
    for variable, field in files.items():
        if variable in given:
            if field.upper() in given:
                raise ConfigurationError(f"{field.upper()} and {variable}: only one of them can be given")
            found[field] = _secret_in(variable, Path(given[variable]), as_it_is=field.upper() in _AS_THEY_ARE)
            origins[field] = variable
    return found, origins


def without_quotes(path: Any) -> Any:
    """Return a path without the quotes around it, which docker run --env-file keeps."""
    if isinstance(path, str) and path[:1] in ("'", '"') and path[-1:] == path[:1]:
        return path[1:-1]
    return path


def check_api_key(key: str) -> None:
    """Refuse text that no header can carry and text in quotes. It would look like an outage later."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an API key consists of printable ASCII characters without spaces")
    if key[0] in "\"'":
        raise ValueError("it is in quotes; remove them (docker run --env-file keeps quotes)")


def _secret_in(variable: str, path: Path, *, as_it_is: bool) -> str:
    """Return what the file holds, without a byte order mark and line ends, and without blanks unless ``as_it_is``."""
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
