"""Conditions on payloads agree with Qdrant's filters. `tests/integration/test_plan_on_engine.py` compares them."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract import Condition, matches

MANY = ["a", "b"]
EXPECTED: list[tuple[Condition, list[Any], list[Any]]] = [
    (Condition("f", "a"), ["a", MANY], ["b", None, [], [None], "", 1, [MANY]]),
    (Condition("f", "1"), ["1"], [1, True, 1.0]),
    (Condition("f", 1), [1, [2, 1]], ["1", True, 1.0, None, [True], {"f": 1}]),
    (Condition("f", ""), [""], [None, []]),
    (Condition("f", 0), [0], [False, 0.0, None]),
    (Condition("f", 1, "is_not"), [2, "1", True, 1.5, {}, [1, 2], [[1]]], [1, [1], None, [], [None]]),
    (Condition("f", 3, "below"), [2, -1, 2.9, [9, 2]], [3, 3.0, 4, "2", True, None, [], [9], {}]),
    (Condition("f", 3, "below_or_absent"), [2, 2.9, None, [], [9, 2]], [3, 4, "2", False, [9], {}, [[]]]),
]
CASES = [
    (condition, value, holds)
    for condition, held, not_held in EXPECTED
    for values, holds in ((held, True), (not_held, False))
    for value in values
]


@pytest.mark.parametrize(("condition", "value", "holds"), CASES, ids=str)
def test_a_condition_holds_for_values_of_its_type(condition: Condition, value: Any, holds: bool) -> None:
    assert condition.matches({"f": value}) is holds


@pytest.mark.parametrize(("condition", "_", "__"), EXPECTED, ids=str)
def test_a_field_that_is_absent_is_like_null(condition: Condition, _: Any, __: Any) -> None:
    assert condition.matches({"g": 1}) is (condition.test == "below_or_absent")


def test_all_conditions_must_hold() -> None:
    both = (Condition("f", 1), Condition("g", 5, "below"))
    assert matches({"f": 1, "g": 4}, both)
    assert not matches({"f": 1, "g": 5}, both)
    assert matches({}, ())
