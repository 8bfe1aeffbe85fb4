"""The words of errors for the types of values. They are the same for producers in all languages."""

from __future__ import annotations

import re
from typing import Any

_WORDS = {
    "str": "text",
    "int": "an integer",
    "float": "a float",
    "bool": "a boolean",
    "list": "a list",
    "dict": "a map",
    "NoneType": "null",
}
"""The words for the types of JSON, by their names in Python."""
_WORDS_FOR_MSGSPEC = {**_WORDS, "array": "a list", "object": "a map", "None": "null"}

_NAMES_OF_MSGSPEC = re.compile(r"`([\w |]+)`")
_LENGTH_OF_MSGSPEC = re.compile(r"Expected `(str|array|object)` of length (>= 1|<= (\d+))")
_UNITS = {"str": " characters", "array": "", "object": " fields"}


def type_word(value: Any) -> str:
    """Return the word for a value's type, or the name of a type that only Python has, with its module."""
    return word_of(type(value))


def word_of(kind: type) -> str:
    """Return the word for a type, or the name of a type that only Python has, with its module."""
    if kind.__module__ != "builtins":
        return f"{kind.__module__}.{kind.__qualname__}"
    return _WORDS.get(kind.__qualname__, kind.__qualname__)


def in_words(problem: str) -> str:
    """Return a problem that msgspec has found, such as ``Expected `int | null`, got `str```, in our words."""
    if of_length := _LENGTH_OF_MSGSPEC.fullmatch(problem):
        kind, _, most = of_length.groups()
        return f"at most {int(most):,}{_UNITS[kind]} are allowed" if most else "must not be empty"
    if not problem.startswith("Expected"):
        return problem
    return _NAMES_OF_MSGSPEC.sub(
        lambda found: " or ".join(_WORDS_FOR_MSGSPEC.get(name, name) for name in found[1].split(" | ")), problem
    )
