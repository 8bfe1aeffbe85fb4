"""The changes that a patch makes to a payload in memory. What it may change is in `test_contract`."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract import Condition, Patch
from memory_worker.contract.patches import patched

BEFORE = {"user_id": 1, "category": "a", "note": {"x": 1}, "empty": None}
CASES: list[tuple[dict[str, Any], list[str], dict[str, Any]]] = [
    ({"category": "b"}, [], {**BEFORE, "category": "b"}),
    ({"new": [1]}, [], {**BEFORE, "new": [1]}),
    ({"note": {"y": 2}}, [], {**BEFORE, "note": {"y": 2}}),  # a map is replaced, not merged
    ({"a.b": 1}, [], {**BEFORE, "a.b": 1}),
    ({}, ["note", "empty", "absent"], {"user_id": 1, "category": "a"}),
    ({"category": "b"}, ["note"], {"user_id": 1, "category": "b", "empty": None}),
]


@pytest.mark.parametrize(("set_", "unset", "after"), CASES, ids=str)
def test_a_patch_changes_only_the_fields_that_it_names(
    set_: dict[str, Any], unset: list[str], after: dict[str, Any]
) -> None:
    payload = dict(BEFORE)
    assert patched(payload, Patch(user_id=1, category="a", set=set_, unset=unset)) == after
    assert payload == BEFORE


def test_a_patch_selects_by_ids_or_by_one_field() -> None:
    assert Patch(user_id=1, point_ids=["mem_1_1"]).where == ()
    assert Patch(user_id=1, kind="document", file_id=0).where == (Condition("file_id", 0),)
