"""Check and normalize the payloads of points. Every error names the path of the value, such as ``payload.a.b[3]``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from memory_worker.contract.arguments import NOT_UNICODE, is_unicode
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import Kind
from memory_worker.contract.type_words import type_word, word_of

MAX_PAYLOAD_FIELDS = 256
MAX_PAYLOAD_DEPTH = 16
MAX_PAYLOAD_VALUES = 4096
MAX_KEY_CHARACTERS = 256

_INT64 = range(-(2**63), 2**63)
_ALWAYS_VALID = frozenset({str, bool, type(None)})
_NUMBERS = frozenset({int, float, bool, type(None)})
_SCALARS = _NUMBERS | {str}
_CONTAINERS = (dict, list, tuple, set, frozenset, Mapping)
_TO_TEXT: dict[type, Callable[[Any], str]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    Decimal: str,
}
_ADVICE = "make it text, a number, a boolean, a list or a map first"
_NAME = re.compile(r"[\w-]{1,64}")

_Path: TypeAlias = tuple[str | int, ...]


def check_payload(payload: dict[str, Any], kind: Kind) -> None:
    """Raise `InvalidJob` for a value that cannot be stored, or whose type is wrong for its field in ``kind``."""
    if len(payload) > MAX_PAYLOAD_FIELDS:
        raise InvalidJob("payload", f"at most {MAX_PAYLOAD_FIELDS} fields are allowed, got {len(payload)}")
    types, rest = kind.payload_types, {}
    for name, value in payload.items():
        given, expected = type(value), types.get(name)
        if expected is not None and given is not expected and value is not None:
            raise InvalidJob(f"payload.{name}", f"expected {word_of(expected)}, got {word_of(given)}")
        if type(name) is not str or not 0 < len(name) <= MAX_KEY_CHARACTERS:
            _check_key((), name)
        if given not in _ALWAYS_VALID and (given is not int or value not in _INT64):
            rest[name] = value
    if rest:
        _check_count(payload)
        _check_children((), rest, 1)


def normalize_payload(payload: Any) -> Any:
    """Convert a payload that was made in Python to the types of the contract. A non-map is returned unchanged.

    Dates and times (with or without a time zone) become ISO 8601 text, ``UUID`` and ``Decimal`` text, an enum its
    value, and a set or tuple a list. Raises `InvalidJob` for other types, including those of NumPy, and for text that
    is not Unicode.
    """
    if not isinstance(payload, Mapping):
        return payload
    if not _SCALARS.issuperset(map(type, payload.values())):
        _check_count(payload)
    return _normalize_map((), payload, 1)


def _check_count(payload: Mapping[Any, Any]) -> None:
    """Raise `InvalidJob` if a payload has too many values, including those inside other values."""
    count = 0
    containers: list[Collection[Any]] = [payload.values()]
    while containers:
        children = containers.pop()
        count += len(children)
        if count > MAX_PAYLOAD_VALUES:
            raise InvalidJob(
                "payload", f"at most {MAX_PAYLOAD_VALUES:,} values are allowed, those in lists and maps included"
            )
        containers += [
            child.values() if isinstance(child, (dict, Mapping)) else child
            for child in children
            if type(child) not in _SCALARS and isinstance(child, _CONTAINERS)
        ]


def _check_children(path: _Path, container: Any, depth: int) -> None:
    for key, child in _items(container):
        if isinstance(container, dict):
            _check_key(path, key)
        if type(child) not in _ALWAYS_VALID:
            _check_value((*path, key), child, depth)


def _check_value(path: _Path, value: Any, depth: int) -> None:
    match value:
        case int():
            if value not in _INT64:
                raise _invalid(path, "an integer must fit 64 bits")
        case float():
            if not math.isfinite(value):
                raise _invalid(path, "a number must be finite")
        case list() | tuple() | dict():
            _check_depth(path, depth)
            _check_children(path, value, depth + 1)
        case _:
            raise _invalid(path, f"a value of type {type_word(value)} cannot be stored")


def _check_depth(path: _Path, depth: int) -> None:
    if depth >= MAX_PAYLOAD_DEPTH:
        raise _invalid(path, f"at most {MAX_PAYLOAD_DEPTH} levels of nesting are allowed")


def _check_key(path: _Path, key: Any) -> None:
    if type(key) is not str or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        given = f"{len(key)} characters" if type(key) is str else type_word(key)
        raise _invalid(path, f"a field name must be a string of 1 to {MAX_KEY_CHARACTERS} characters, got {given}")


def _normalize_map(path: _Path, values: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    normalized = {}
    for key, value in values.items():
        name = key if type(key) is str else _normalize_key(path, key)
        if not name.isascii():
            _check_text(path, name)
        normalized[name] = value if type(value) in _NUMBERS else _normalize((*path, name), value, depth)
    return normalized


def _normalize_key(path: _Path, key: Any) -> str:
    name: str = key.value if isinstance(key, Enum) else key
    _check_key(path, name)
    return name


def _normalize(path: _Path, value: Any, depth: int) -> Any:
    if type(value) is str:
        _check_text(path, value)
        return value
    if isinstance(value, Enum):
        return value.value if type(value.value) in _NUMBERS else _normalize(path, value.value, depth)
    if isinstance(value, _CONTAINERS):
        _check_depth(path, depth)
        if isinstance(value, (dict, Mapping)):
            return _normalize_map(path, value, depth + 1)
        return [
            child if type(child) in _NUMBERS else _normalize((*path, position), child, depth + 1)
            for position, child in enumerate(value)
        ]
    to_text = _TO_TEXT.get(type(value))
    if to_text is None:
        raise _invalid(path, f"a value of type {type_word(value)} cannot be stored: {_ADVICE}")
    return to_text(value)


def _check_text(path: _Path, text: str) -> None:
    if not is_unicode(text):
        raise _invalid(path, NOT_UNICODE)


def _items(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _invalid(path: _Path, problem: str) -> InvalidJob:
    return InvalidJob("".join(("payload", *(f".{name}" for name in path[:1]), *map(_format_step, path[1:]))), problem)


def _format_step(step: str | int) -> str:
    """Format one step of a path. A nested field name with unusual characters may be data, so errors do not show it."""
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _NAME.fullmatch(step) else ".?"
