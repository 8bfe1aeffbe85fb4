"""The conditions of reads: which are refused, and what Qdrant is asked."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract import Count, FieldCondition, Limits, List, Search, checked, normalize_job
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import DOCUMENT, MEMORY
from memory_worker.store.selections import only_fields, searched_by, selection_of, with_fields

LIMITS = Limits(dimension=2)
VECTOR = [1.0, 0.0]


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ({"none": 1}, "where.none"),
        ({"category": {}}, "where.category"),
        ({"category": {"or_absent": True}}, "where.category"),
        ({"_point_id": "mem_1_1"}, "where._point_id"),
        ({"message_id": "1"}, "where.message_id"),
        ({"message_id": 1.5}, "where.message_id"),
        ({"message_id": True}, "where.message_id"),
        ({"active": 1}, "where.active"),
        ({"category": 1}, "where.category"),
        ({"message_id": 2**63}, "where.message_id"),
        ({"message_id": {"gte": 2**63}}, "where.message_id.gte"),
        ({"message_id": {"gte": 10**400}}, "where.message_id.gte"),
        ({"message_id": {"lte": float("nan")}}, "where.message_id.lte"),
        ({"message_id": {"lte": float("inf")}}, "where.message_id.lte"),
        ({"category": {"gte": 1}}, "where.category.gte"),
        ({"category": {"any": ["a", 1]}}, "where.category.any[1]"),
        ({"active": {"not_any": [None]}}, "where.active.not_any[0]"),
        ({"message_id": {"any": []}}, "where.message_id.any"),
        ({"message_id": {"any": [1] * 101}}, "where.message_id.any"),
        ({"message_id": {"above": 1}}, "where.message_id.above"),
        ({"message_id": None}, "where.message_id"),
        ([("message_id", 1)], "where"),
        (
            dict.fromkeys(["category", "key", "value", "source", "message_id", "created", "updated", "active", "x"], 1),
            "",
        ),
    ],
)
def test_a_wrong_condition_is_refused(where: Any, field: str) -> None:
    for job in (Count(user_id=1, where=where), Search(user_id=1, vector=VECTOR, where=where)):
        with pytest.raises(InvalidJob) as refused:
            checked(normalize_job(job), LIMITS)
        assert refused.value.field.startswith(field)


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"message_id": 0, "category": "", "active": False, "user_id": 2},
        {
            "message_id": {
                "is": -(2**63),
                "any": [1],
                "not_any": (2, 3),
                "gte": 0.5,
                "lte": 2**63 - 1,
                "or_absent": True,
            }
        },
        {"message_id": FieldCondition(is_=7)},
    ],
)
def test_these_conditions_are_accepted(where: Any) -> None:
    job = checked(normalize_job(Count(user_id=1, where=where)), LIMITS)
    assert list(job.where) == list(where)


def test_each_selection_names_its_user_and_by_default_the_active_points() -> None:
    def conditions(**job: Any) -> list[tuple[str, Any]]:
        found = selection_of(Count(user_id=7, **job), MEMORY).filter
        assert not found.should
        assert not found.must_not
        fields = (condition.field for condition in found.must)
        return [(field.key, getattr(field.match, field.match.WhichOneof("match_value") or "")) for field in fields]

    assert conditions() == [("user_id", 7), ("active", True)]
    assert conditions(active=True, category="a") == [("user_id", 7), ("category", "a"), ("active", True)]
    assert conditions(active=False) == [("user_id", 7), ("active", False)]
    assert conditions(active="any") == [("user_id", 7)]
    documents = selection_of(List(user_id=7, kind="document", file_id=0), DOCUMENT).filter
    assert [condition.field.key for condition in documents.must] == ["user_id", "file_id"]


def test_a_search_leaves_out_points_and_categories() -> None:
    job = Search(user_id=7, like="mem_7_1", exclude=["mem_7_2"], not_category=["a", "b"])
    ids, categories = searched_by(job, MEMORY).must_not
    assert (ids.field.key, list(ids.field.match.keywords.strings)) == ("_point_id", ["mem_7_2", "mem_7_1"])
    assert (categories.field.key, list(categories.field.match.keywords.strings)) == ("category", ["a", "b"])


def test_the_logical_id_is_fetched_but_only_returned_if_it_was_asked_for() -> None:
    assert list(with_fields(["a", "b c"]).include.fields) == ["a", '"b c"', "_point_id"]
    assert with_fields(Search(user_id=1).fields).enable
    payload = {"a": 1, "_point_id": "mem_1_1"}
    assert only_fields({**payload}, ["a"]) == {"a": 1}
    assert only_fields({**payload}, ["a", "_point_id"]) == payload
    assert only_fields({**payload}, Search(user_id=1).fields) == payload
