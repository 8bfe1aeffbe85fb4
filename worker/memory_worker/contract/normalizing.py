"""Normalize the fields of jobs that were made in Python to the types of the contract. Errors name the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from memory_worker.contract.arguments import to_list, to_scalar
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    MAX_FIELDS,
    MAX_NAMESPACES,
    MAX_PATCH_FIELDS,
    MAX_POINT_IDS,
    MAX_VALUES,
    FieldCondition,
)
from memory_worker.contract.payloads import normalize_payload
from memory_worker.contract.type_words import type_word
from memory_worker.contract.vectors import pack_vector


def normalize_field(name: str, value: Any) -> Any:
    """Return the value of a job's field in the types of the contract. Raises `InvalidJob`."""
    normalize = _NORMALIZERS.get(name)
    return to_scalar(value, name) if normalize is None else normalize(value)


def _list(field: str, of: str, max_items: int, values: Any) -> list[Any]:
    items = to_list(field, values, of=of, max_items=max_items)
    return [to_scalar(value, f"{field}[{position}]") for position, value in enumerate(items)]


def _set(values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise InvalidJob("set", f"expected a map, got {type_word(values)}")
    try:
        return normalize_payload(values)
    except InvalidJob as error:
        raise InvalidJob(f"set{error.field.removeprefix('payload')}", error.problem) from error


def _where(conditions: Any) -> Any:
    if not isinstance(conditions, Mapping):
        raise InvalidJob("where", f"expected a map of fields to conditions, got {type_word(conditions)}")
    return {name: _condition(f"where.{name}", condition) for name, condition in conditions.items()}


def _condition(path: str, condition: Any) -> Any:
    if isinstance(condition, FieldCondition):
        condition = {
            field.encode_name: value
            for field in msgspec.structs.fields(FieldCondition)
            if (value := getattr(condition, field.name)) is not UNSET
        }
    if not isinstance(condition, Mapping):
        return to_scalar(condition, path)
    return {name: _test(f"{path}.{name}", name, value) for name, value in condition.items()}


def _test(path: str, name: str, value: Any) -> Any:
    if name in ("any", "not_any"):
        return _list(path, "values", MAX_VALUES, value)
    return to_scalar(value, path)


_NORMALIZERS: dict[str, Callable[[Any], Any]] = {
    "vector": pack_vector,
    "payload": normalize_payload,
    "set": _set,
    "where": _where,
    "point_ids": partial(_list, "point_ids", "point ids", MAX_POINT_IDS),
    "exclude": partial(_list, "exclude", "point ids", MAX_VALUES),
    "not_category": partial(_list, "not_category", "categories", MAX_VALUES),
    "unset": partial(_list, "unset", "field names", MAX_PATCH_FIELDS),
    "fields": partial(_list, "fields", "field names", MAX_FIELDS),
    "namespaces": partial(_list, "namespaces", "namespaces", MAX_NAMESPACES),
}
