"""Payloads: what may be stored with a point. Every error names the value by its path, such as ``payload.a.b[3]``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from memory_worker.contract.arguments import NOT_UNICODE, is_unicode, type_name
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import Kind

MAX_PAYLOAD_FIELDS = 256
MAX_PAYLOAD_DEPTH = 16
MAX_PAYLOAD_VALUES = 4096
MAX_KEY_CHARACTERS = 256

_INT64 = range(-(2**63), 2**63)
_PLAIN = frozenset({str, bool, type(None)})
_SCALARS = frozenset({int, float, bool, type(None)})
_ATOMS = _SCALARS | {str}
_CONTAINERS = (dict, list, tuple, set, frozenset, Mapping)

_WORD = re.compile(r"[\w-]{1,64}")

Path: TypeAlias = tuple[str | int, ...]


def check_payload(payload: dict[str, Any], kind: Kind) -> None:
    """Raise `InvalidJob` for what cannot be stored, or is not of the type that its field has in ``kind``."""
    if len(payload) > MAX_PAYLOAD_FIELDS:
        raise InvalidJob("payload", f"at most {MAX_PAYLOAD_FIELDS} fields are allowed, got {len(payload)}")
    types, rest = kind.payload_types, {}
    for name, value in payload.items():
        given, expected = type(value), types.get(name)
        if expected is not None and given is not expected and value is not None:
            raise InvalidJob(f"payload.{name}", f"expected {expected.__name__}, got {given.__name__}")
        if type(name) is not str or not 0 < len(name) <= MAX_KEY_CHARACTERS:
            _check_key((), name)
        if given not in _PLAIN and (given is not int or value not in _INT64):
            rest[name] = value
    if rest:
        _check_count(payload)
        _check_children((), rest, 1)


def plain_payload(payload: Any) -> Any:
    """Return a payload made in Python as a worker will read it; what is no map comes back unchanged.

    Dates and times, with a zone or without, become ISO 8601 text; a ``UUID`` or ``Decimal`` text; an enum its value;
    a set or tuple a list. Raises `InvalidJob` for other types, NumPy's among them, and for text that is not Unicode.
    """
    if not isinstance(payload, Mapping):
        return payload
    if not _ATOMS.issuperset(map(type, payload.values())):
        _check_count(payload)
    return _plain_map((), payload, 1)


def _check_count(payload: Mapping[Any, Any]) -> None:
    if _values_in(payload, MAX_PAYLOAD_VALUES) > MAX_PAYLOAD_VALUES:
        raise InvalidJob(
            "payload", f"at most {MAX_PAYLOAD_VALUES:,} values are allowed, those in lists and maps included"
        )


def _values_in(root: Mapping[Any, Any], enough: int) -> int:
    """Count the values in a payload, those inside others too, until there are more than ``enough``."""
    count = 0
    containers: list[Collection[Any]] = [root.values()]
    while containers and count <= enough:
        children = containers.pop()
        count += len(children)
        if count <= enough:
            containers += [
                child.values() if isinstance(child, (dict, Mapping)) else child
                for child in children
                if type(child) not in _ATOMS and isinstance(child, _CONTAINERS)
            ]
    return count


def _check_children(path: Path, container: Any, depth: int) -> None:
    for key, child in _items(container):
        if isinstance(container, dict):
            _check_key(path, key)
        if type(child) not in _PLAIN:
            _check_value((*path, key), child, depth)


def _check_value(path: Path, value: Any, depth: int) -> None:
    match value:
        case int():
            if value not in _INT64:
                raise _refused(path, "an integer must fit 64 bits")
        case float():
            if not math.isfinite(value):
                raise _refused(path, "a number must be finite")
        case list() | tuple() | dict():
            _check_depth(path, depth)
            _check_children(path, value, depth + 1)
        case _:
            raise _refused(path, f"a value of type {type_name(value)} cannot be stored")


def _check_depth(path: Path, depth: int) -> None:
    if depth >= MAX_PAYLOAD_DEPTH:
        raise _refused(path, f"at most {MAX_PAYLOAD_DEPTH} levels of nesting are allowed")


def _check_key(path: Path, key: Any) -> None:
    if type(key) is not str or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        given = f"{len(key)} characters" if type(key) is str else type_name(key)
        raise _refused(path, f"a field name must be a string of 1 to {MAX_KEY_CHARACTERS} characters, got {given}")


def _plain_map(path: Path, values: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    found = {}
    for key, value in values.items():
        name = key if type(key) is str else _plain_key(path, key)
        if not name.isascii():
            _check_text(path, name)
        found[name] = value if type(value) in _SCALARS else _plain((*path, name), value, depth)
    return found


def _plain_key(path: Path, key: Any) -> str:
    name: str = key.value if isinstance(key, Enum) else key
    _check_key(path, name)
    return name


def _plain(path: Path, value: Any, depth: int) -> Any:
    if type(value) is str:
        _check_text(path, value)
        return value
    if isinstance(value, Enum):
        return value.value if type(value.value) in _SCALARS else _plain(path, value.value, depth)
    if isinstance(value, _CONTAINERS):
        _check_depth(path, depth)
        if isinstance(value, (dict, Mapping)):
            return _plain_map(path, value, depth + 1)
        return [
            child if type(child) in _SCALARS else _plain((*path, position), child, depth + 1)
            for position, child in enumerate(value)
        ]
    as_text = _AS_TEXT.get(type(value))
    if as_text is None:
        raise _refused(path, f"a value of type {type_name(value)} cannot be stored: {_ADVICE}")
    return as_text(value)


_AS_TEXT: dict[type, Callable[[Any], str]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    Decimal: str,
}
_ADVICE = "make it a str, int, float, bool, list or dict first"


def _check_text(path: Path, text: str) -> None:
    if not is_unicode(text):
        raise _refused(path, NOT_UNICODE)


def _items(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _refused(path: Path, problem: str) -> InvalidJob:
    return InvalidJob("".join(("payload", *(f".{name}" for name in path[:1]), *map(_step, path[1:]))), problem)


def _step(step: str | int) -> str:
    """Return a step of a path. A name inside a field that is no plain word may be data: errors do not quote it."""
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _WORD.fullmatch(step) else ".?"
