from __future__ import annotations

import math
from collections import Counter
from operator import mul

import pytest

from memory_worker.contract import Limits, Upsert, checked
from memory_worker.contract.kinds import KINDS
from memory_worker.contract.vectors import check_vector, unpack_vector
from memory_worker.demo.dataset import Question, load

DATA = load()
ITEMS = DATA.memories + DATA.documents
MAX_BYTES = 600_000


def score(left: bytes, right: bytes) -> float:
    return float(sum(map(mul, unpack_vector(left), unpack_vector(right))))


def search(question: Question, without: str | None = None) -> list[str]:
    """Return the answer that the whole system must give, found by brute force."""
    wanted = {"category": question.category, "group_key": question.group_key}
    scores = {
        item.point_id: score(question.vector, item.vector)
        for item in ITEMS
        if item.user_id == question.user_id
        and item.kind == question.kind
        and item.point_id != without
        and all(value in (None, item.payload.get(name)) for name, value in wanted.items())
    }
    best = sorted(scores, key=scores.__getitem__, reverse=True)[: question.limit]
    return [point_id for point_id in best if scores[point_id] >= question.min_score]


def test_the_numbers_of_memories_documents_and_questions() -> None:
    assert Counter((item.user_id, item.payload["category"]) for item in DATA.memories) == {
        (user, category): 10
        for user in (1730, 1804, 1911, 2042, 2156, 2203)
        for category in ("personal", "preferences", "work", "health", "travel", "projects")
    }
    assert len(DATA.documents) == 60
    assert Counter(question.shows for question in DATA.questions).keys() == {
        "isolation",
        "category",
        "delete",
        "meaning",
        "german",
        "document",
        "nothing",
    }


def test_ids_and_texts_are_unique() -> None:
    assert len({item.point_id for item in ITEMS}) == len(ITEMS)
    assert len({item.text for item in ITEMS}) == len(ITEMS)


def test_every_item_makes_a_valid_job() -> None:
    for item in ITEMS:
        job = Upsert(
            kind=item.kind,
            user_id=item.user_id,
            point_id=item.point_id,
            vector=item.vector,
            payload=item.payload,
        )
        assert checked(job, Limits(dimension=DATA.dimension)).vector == item.vector


def test_payload_fields_are_those_of_the_kind() -> None:
    for item in ITEMS:
        assert set(item.payload) <= set(KINDS[item.kind].payload_types)


def test_payloads_are_consistent() -> None:
    for item in DATA.memories:
        assert 0 < item.payload["created"] <= item.payload["updated"]
        assert ("message_id" in item.payload) == (item.payload["source"] == "chat")
    for item in DATA.documents:
        lines = item.payload["end_line"] - item.payload["start_line"] + 1
        assert lines == item.text.count("\n") + 1


def test_vectors_are_finite_and_of_length_one() -> None:
    for vector in [item.vector for item in ITEMS] + [question.vector for question in DATA.questions]:
        check_vector(vector, DATA.dimension)
        assert math.sqrt(score(vector, vector)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("question", DATA.questions, ids=lambda question: f"{question.user_id}: {question.text}")
def test_a_question_finds_the_expected_points(question: Question) -> None:
    found = search(question)
    assert found[: len(question.expected)] == list(question.expected)
    assert bool(found) == (question.shows != "nothing")


def test_the_same_question_of_two_users_has_different_answers() -> None:
    answers: dict[str, list[str]] = {}
    for question in DATA.questions:
        if question.shows == "isolation":
            answers.setdefault(question.text, []).extend(question.expected)
    assert [len(set(points)) for points in answers.values()] == [2, 2]


def test_a_question_finds_nothing_once_its_memory_is_deleted() -> None:
    (question,) = [question for question in DATA.questions if question.shows == "delete"]
    assert search(question, without=question.expected[0]) == []


def test_a_question_without_an_answer_would_find_a_point_of_another_user() -> None:
    # User 2156 has a memory of what user 1804 asks about. Only the filter excludes it.
    (question,) = [question for question in DATA.questions if question.text == "Which motorbike do I ride?"]
    others = [item for item in DATA.memories if item.user_id != question.user_id]
    best = max(others, key=lambda item: score(question.vector, item.vector))
    assert score(question.vector, best.vector) > question.min_score
    assert "motorbike" in best.text


def test_the_data_is_small(request: pytest.FixtureRequest) -> None:
    data = request.config.rootpath / "worker" / "memory_worker" / "demo" / "data"
    assert sum(path.stat().st_size for path in data.iterdir() if path.is_file()) < MAX_BYTES
