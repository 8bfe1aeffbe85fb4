"""Conditions on payloads. Write jobs select points by them, and so do their operations in Qdrant.

The plan and the replay guard evaluate the same conditions on payloads in memory, so `Condition.matches` must agree with
Qdrant's filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

Test: TypeAlias = Literal["is", "is_not", "below", "below_or_absent"]


class Condition(msgspec.Struct, frozen=True, array_like=True):
    """A condition on one field of a payload.

    ``is_not`` and ``below`` hold for present values only. ``below_or_absent`` also holds if there is no value.
    """

    field: str
    value: str | int
    test: Test = "is"

    def matches(self, payload: Mapping[str, Any]) -> bool:
        """Return whether a point with this payload meets the condition."""
        value = payload.get(self.field)
        if self.test == "is":
            return bool(value == self.value)
        if value is None:
            return self.test == "below_or_absent"
        return bool(value != self.value if self.test == "is_not" else value < self.value)


Where: TypeAlias = tuple[Condition, ...]
"""Conditions that all must hold. No conditions hold for every point."""


def matches(payload: Mapping[str, Any], where: Iterable[Condition]) -> bool:
    """Return whether a point with this payload meets all conditions."""
    return all(condition.matches(payload) for condition in where)
