"""Convert the arguments that Python programs pass. Errors name the argument."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import Any

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.type_words import type_word

NOT_UNICODE = "is not Unicode text: it has half of a surrogate pair"
_NUMBERS = frozenset({int, float, bool, type(None)})
_NOT_LISTS = (str, bytes, bytearray, memoryview, Mapping)


def to_scalar(value: Any, field: str) -> Any:
    """Convert an enum to its value, and a NumPy scalar to ``str``, ``int`` or ``float``.

    Other values are returned unchanged. Raises `InvalidJob` for text that is not Unicode.
    """
    if type(value) is str:
        if not is_unicode(value):
            raise InvalidJob(field, NOT_UNICODE)
        return value
    if type(value) in _NUMBERS:
        return value
    if isinstance(value, Enum):
        return to_scalar(value.value, field)
    if isinstance(value, str):
        return to_scalar(str.__str__(value), field)
    return _to_number(value)


def _to_number(value: Any) -> Any:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        with suppress(OverflowError):  # a Fraction that is larger than every float
            return float(value)
    return value


def to_list(field: str, values: Any, *, of: str, max_items: int | None = None) -> list[Any]:
    """Return the items of an iterable. Raises `InvalidJob`, which says that a list ``of`` something was expected.

    If there are more than ``max_items``, return one item too many, so that a later check finds it.
    """
    if isinstance(values, _NOT_LISTS) or not isinstance(values, Iterable):
        raise InvalidJob(field, f"expected a list of {of}, got {type_word(values)}")
    return list(islice(values, None if max_items is None else max_items + 1))


def to_seconds(field: str, value: Any, *, maximum: float) -> float:
    """Return a time in seconds, more than 0 and at most ``maximum``. Raises `InvalidJob`."""
    number = to_scalar(value, field)
    if type(number) not in (int, float) or not 0 < number <= maximum:
        raise InvalidJob(
            field, f"expected a number of seconds, more than 0 and at most {maximum:g}, got {excerpt(value)}"
        )
    return float(number)


def is_unicode(text: str) -> bool:
    """Return whether the text can be encoded as UTF-8. Half of a surrogate pair cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def excerpt(value: Any) -> str:
    """Return a short ASCII form of a value for an error."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    try:
        return ascii(value)[:80]
    except ValueError:  # Python does not format integers of thousands of digits
        return "a very large integer"
