"""The values of golden files. A value that JSON does not have is a map of one field, such as ``{"number": "nan"}``."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from memory_worker.contract import Receipt


def _nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


_FORMS: dict[str, Callable[[Any], Any]] = {
    "base64": base64.b64decode,
    "float32": base64.b64decode,
    "number": float,
    "integer": int,
    "datetime": datetime.fromisoformat,
    "receipt": Receipt.parse,
    "not_unicode": lambda text: f"{text}\ud800",
    "list_of": lambda found: [found[0]] * found[1],
    "text_of": lambda found: found[0] * found[1],
    "map_of": lambda count: {f"f{at}": at for at in range(count)},
    "nested_lists": _nested,
}
"""What the form of a value stands for, by the only field of its map."""


def dump(document: Any) -> str:
    """Return the text of a golden file. The same document always has the same text."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def to_value(form: Any) -> Any:
    """Return the value that a golden file describes."""
    if isinstance(form, list):
        return [to_value(item) for item in form]
    if not isinstance(form, dict):
        return form
    if len(form) == 1:
        ((name, content),) = form.items()
        if name in _FORMS:
            return _FORMS[name](content)
    return {name: to_value(item) for name, item in form.items()}


def to_form(value: Any) -> Any:
    """Return the form of a value in a golden file. A struct is the map of all its fields, and a receipt its text."""
    match value:
        case Receipt():
            form: Any = str(value)
        case msgspec.Struct():
            form = {name: to_form(getattr(value, name)) for name in value.__struct_fields__}
        case bytes():
            form = {"base64": base64.b64encode(value).decode()}
        case dict():
            form = {name: to_form(item) for name, item in value.items()}
        case list():
            form = [to_form(item) for item in value]
        case _:
            form = value
    return form
