"""Reads ``KINDS_FILE``, a TOML file with one table for each kind, and makes the kinds of the deployment."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

import msgspec
from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kind_specs import FieldType, KindSpec, kinds_of
from memory_worker.contract.kinds import KINDS, Distance, IndexType, Kinds, UserIdType, with_collections

Specs: TypeAlias = Mapping[str, KindSpec]

BUILT_IN: Final[Specs] = {name: KindSpec() for name in KINDS}
"""The tables of a deployment without a file."""

COLLECTION_VARIABLES: Final = MappingProxyType(
    {"memory": "QDRANT_MEMORIES_COLLECTION", "document": "QDRANT_DOCUMENTS_COLLECTION"}
)
"""The variables that name the collections of the built-in kinds, unless the file does."""

_PATH = re.compile(r" - at `(?:key in `)?\$\.?(.*)`", re.DOTALL)
_CHOICES: Final[Mapping[str, Any]] = MappingProxyType(
    {"distance": Distance, "user_ids": UserIdType, "fields": FieldType, "indexes": IndexType}
)


def read_specs(path: Path) -> Specs:
    """Return the tables of a file by the names of their kinds.

    Raises `ValueError`, which names the file, the table and the key.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"KINDS_FILE {path}: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"KINDS_FILE {path}: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"KINDS_FILE {path}: it is not TOML: {error}") from None
    if not document:
        raise ValueError(f"KINDS_FILE {path}: it describes no kind")
    return {name: _spec(f"KINDS_FILE {path}: [{name}]", table) for name, table in document.items()}


def kinds_from(specs: Specs, path: Path | None, collections: Mapping[str, str]) -> Kinds:
    """Return the kinds that ``specs`` describe. ``path`` is the file that they are from.

    ``collections`` has the collections of the built-in kinds whose tables name none. Raises `ValueError`, which names
    the wrong variable, or the file, the table and the key.
    """
    try:
        return kinds_of(specs, with_collections(KINDS, collections))
    except InvalidJob as error:
        raise ValueError(_located(error, specs, path)) from None


def _located(error: InvalidJob, specs: Specs, path: Path | None) -> str:
    """Return the problem with the place of the wrong value: a variable, or a table and its key."""
    kind, _, key = error.field.partition(".")
    variables = {
        name: variable
        for name, variable in COLLECTION_VARIABLES.items()
        if specs.get(name, KindSpec()).collection is UNSET
    }
    problem = error.problem
    for name, variable in variables.items():
        problem = re.sub(rf"\b{name}\.collection\b", variable, problem)
    if key == "collection" and kind in variables:
        return f"{variables[kind]}: {problem}"
    return f"KINDS_FILE {path}: [{kind}]{f' {key}' if key else ''}: {problem}"


def _spec(place: str, table: Any) -> KindSpec:
    try:
        return msgspec.convert(table, KindSpec)
    except msgspec.ValidationError as error:
        key, problem = _problem(table, error)
        raise ValueError(f"{place}{f' {key}' if key else ''}: {problem}") from None


def _problem(table: Any, error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the wrong key of a table, and what is wrong with it."""
    message = str(error)
    found = _PATH.search(message)
    key, problem = found[1] if found else "", message[: found.start()] if found else message
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        return unknown[1], f"is unknown; known are {', '.join(KindSpec.__struct_fields__)}"
    name, inside, _ = key.partition("[")
    if inside and isinstance(table[name], dict):
        key = f"{name}.{_wrong_item(name, table[name])}"
    if problem.startswith("Invalid enum value"):
        problem += f"; allowed are {', '.join(get_args(_CHOICES[name]))}"
    return key, (problem[0].lower() + problem[1:]).replace("`object`", "`table`")


def _wrong_item(name: str, items: Mapping[str, Any]) -> str:
    """Return the key of the first wrong item of a table in a table, because msgspec does not name it."""
    for key, value in items.items():
        try:
            msgspec.convert({name: {key: value}}, KindSpec)
        except msgspec.ValidationError:
            return key
    return ""
