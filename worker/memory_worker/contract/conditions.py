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

    ``is_not`` and ``below`` hold for present values only. ``below_or_absent`` also holds if there is no value. A list
    meets the condition if one of its values does. Values of other types than that of the condition are different from
    it, and not below it.
    """

    field: str
    value: str | int
    test: Test = "is"

    def matches(self, payload: Mapping[str, Any]) -> bool:
        """Return whether a point with this payload meets the condition."""
        found = payload.get(self.field)
        values = found if isinstance(found, (list, tuple)) else (found,)
        if any(map(self._holds, values)):
            return True
        return self.test == "below_or_absent" and (found is None or len(values) == 0)

    def _holds(self, value: Any) -> bool:
        if value is None:
            return False
        if self.test in ("is", "is_not"):
            return (type(value) is type(self.value) and value == self.value) is (self.test == "is")
        return type(value) in (int, float) and bool(value < self.value)


Where: TypeAlias = tuple[Condition, ...]
"""Conditions that all must hold. No conditions hold for every point."""


def matches(payload: Mapping[str, Any], where: Iterable[Condition]) -> bool:
    """Return whether a point with this payload meets all conditions."""
    return all(condition.matches(payload) for condition in where)
