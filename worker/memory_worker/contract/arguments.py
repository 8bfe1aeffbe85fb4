"""Arguments as Python programs pass them: taken as what they mean, or refused by the name of the argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import Any

from memory_worker.contract.errors import InvalidJob

NOT_UNICODE = "is not Unicode text: it has half of a surrogate pair"
_NUMBERS = frozenset({int, float, bool, type(None)})
_NO_LISTS = (str, bytes, bytearray, memoryview, Mapping)


def plain(value: Any, field: str) -> Any:
    """Return a scalar as ``str``, ``int`` or ``float``: an enum as its value, a NumPy number as the number it is.

    Anything else comes back unchanged. Raises `InvalidJob`, naming ``field``, for text that is not Unicode.
    """
    if type(value) is str:
        if not is_unicode(value):
            raise InvalidJob(field, NOT_UNICODE)
        return value
    if type(value) in _NUMBERS:
        return value
    if isinstance(value, Enum):
        return plain(value.value, field)
    if isinstance(value, str):
        return plain(str.__str__(value), field)
    return _plain_number(value)


def _plain_number(value: Any) -> Any:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        with suppress(OverflowError):  # a fraction beyond all floats
            return float(value)
    return value


def listed(field: str, values: Any, *, of: str, most: int | None = None) -> list[Any]:
    """Return the items of an iterable, at most ``most`` and one more; raises `InvalidJob` for what is no list.

    ``of`` says in the error what the list should hold.
    """
    if isinstance(values, _NO_LISTS) or not isinstance(values, Iterable):
        raise InvalidJob(field, f"expected a list of {of}, got {type_name(values)}")
    return list(islice(values, None if most is None else most + 1))


def seconds(field: str, value: Any, *, most: float) -> float:
    """Return a time in seconds, more than 0 and at most ``most``; raises `InvalidJob`."""
    number = plain(value, field)
    if type(number) not in (int, float) or not 0 < number <= most:
        raise InvalidJob(field, f"expected a number of seconds, more than 0 and at most {most:g}, got {shown(value)}")
    return float(number)


def is_unicode(text: str) -> bool:
    """Say whether the text can be encoded; one with half of a surrogate pair cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def shown(value: Any) -> str:
    """Return a value as an error shows it: short and in ASCII."""
    try:
        return ascii(value)[:80]
    except ValueError:  # Python refuses to write an integer of thousands of digits
        return f"a very large {type_name(value)}"


def type_name(value: Any) -> str:
    """Return the name of a value's type, with its module unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
