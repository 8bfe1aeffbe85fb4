"""Finds environment variables whose names look like a setting's. One rule, in this order:

1. A name that is known to be another program's is a warning: it has no effect here, and the setting is named.
2. A name that is often used for a setting is an error.
3. A setting's name with something behind it, such as ``REDIS_URL_STAGING``, is a warning.
4. A name that is nearly a setting's, or the beginning of one, or one with more letters, is an error.

All other names are none of our business. A setting's name of a single word, ``PORT``, is like too many others to be
looked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

OTHER_PROGRAMS = {
    "DATABASE_DIR": "DATA_DIR",
    "DATADIR": "DATA_DIR",
    "DATA_DIRECTORY": "DATA_DIR",
    "LOGGING_LEVEL": "LOG_LEVEL",
    "LOGLEVEL": "LOG_LEVEL",
    "LOG_LVL": "LOG_LEVEL",
    "QDRANT_COLLECTION": "QDRANT_MEMORIES_COLLECTION",
    "QDRANT_COLLECTION_NAME": "QDRANT_MEMORIES_COLLECTION",
    "QDRANT_GRPC_PORT": "QDRANT_URL",
    "QDRANT_HOST": "QDRANT_URL",
    "QDRANT_HTTP_PORT": "QDRANT_URL",
    "QDRANT_PORT": "QDRANT_URL",
    "QDRANT_TIMEOUT": "QDRANT_TIMEOUT_S",
    "QDRANT__SERVICE__API_KEY": "QDRANT_API_KEY",
    "REDIS_ADDR": "REDIS_URL",
    "REDIS_DATABASE": "REDIS_URL",
    "REDIS_DB": "REDIS_URL",
    "REDIS_HOST": "REDIS_URL",
    "REDIS_MAX_CONNECTIONS": "REDIS_URL",
    "REDIS_PORT": "REDIS_URL",
    "REDIS_SOCKET_TIMEOUT": "REDIS_TIMEOUT_S",
    "REDIS_SSL": "REDIS_URL",
    "REDIS_TIMEOUT": "REDIS_TIMEOUT_S",
    "REDIS_TLS": "REDIS_URL",
    "REDIS_TLS_URL": "REDIS_URL",
    "REDIS_USER": "REDIS_USERNAME",
}
"""Names that other programs read, and the setting that says the same here."""

ALSO_CALLED = {
    "BATCH_SIZE": "BATCH_MAX_JOBS",
    "MAX_BATCH_SIZE": "BATCH_MAX_JOBS",
    "QDRANT_DIM": "QDRANT_VECTOR_DIMENSION",
    "QDRANT_DIMENSION": "QDRANT_VECTOR_DIMENSION",
    "QDRANT_ENDPOINT": "QDRANT_URL",
    "QDRANT_KEY": "QDRANT_API_KEY",
    "QDRANT_TOKEN": "QDRANT_API_KEY",
    "QDRANT_VECTOR_SIZE": "QDRANT_VECTOR_DIMENSION",
    "REDIS_DSN": "REDIS_URL",
    "REDIS_PASS": "REDIS_PASSWORD",
    "REDIS_PWD": "REDIS_PASSWORD",
}
"""Names that are too far from a setting's to be found by likeness, and the setting that is meant."""

_COMMON = ("BIND_", "DATA_", "LOG_", "PORT")
"""Settings that begin so have names that many programs use."""

_SERVICE_LINK = re.compile(r".+_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))(_.*)?")
"""What Kubernetes and Docker put into each container for each service, by the dozen."""

_LIKENESS = 0.86
_SHORTEST_BEGINNING = 3


class Unknown(NamedTuple):
    """A variable that is no setting, and the setting that may be meant."""

    name: str
    meant: str


def misspelt(names: Iterable[str], settings: Collection[str]) -> list[Unknown]:
    """Return the variables that are certainly meant to be settings."""
    return [Unknown(name, meant) for name in names if (meant := _meant(name, settings))]


def foreign(names: Iterable[str], settings: Collection[str]) -> list[Unknown]:
    """Return the variables that look like settings but may well be another program's."""
    return [Unknown(name, setting) for name in names if (setting := _looks_like(name, settings))]


def _meant(name: str, settings: Collection[str]) -> str | None:
    if _is_exempt(name, settings):
        return None
    if not name.isupper():
        return name.upper() if name.upper() in settings and not name.upper().startswith(_COMMON) else None
    if name in ALSO_CALLED:
        return ALSO_CALLED[name]
    extended = _extended(name, settings)
    others = [setting for setting in settings if setting != extended and "_" in setting]
    related = [] if extended else [setting for setting in others if _begins(name, setting) or name.startswith(setting)]
    found = difflib.get_close_matches(name, related or others, n=1, cutoff=0 if related else _LIKENESS)
    return found[0] if found else None


def _looks_like(name: str, settings: Collection[str]) -> str | None:
    if name in OTHER_PROGRAMS:
        return OTHER_PROGRAMS[name]
    if _is_exempt(name, settings) or _meant(name, settings):
        return None
    return _extended(name, settings) or (name.upper() if name.upper() in settings else None)


def _is_exempt(name: str, settings: Collection[str]) -> bool:
    return name in settings or name in OTHER_PROGRAMS or bool(_SERVICE_LINK.fullmatch(name))


def _extended(name: str, settings: Collection[str]) -> str | None:
    """Return the setting whose name, an underscore and more are ``name``."""
    begun = [setting for setting in settings if "_" in setting and name.startswith(f"{setting}_")]
    return max(begun, key=len, default=None) if not name.endswith("_") else None


def _begins(name: str, setting: str) -> bool:
    _, _, rest = name.partition("_")
    return len(rest) >= _SHORTEST_BEGINNING and setting.startswith(name)
