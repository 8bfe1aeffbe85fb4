"""Large answers are remembered for some requests, and only the most recent ones."""

from __future__ import annotations

from memory_worker.store.large import LargeAnswers


def test_a_large_answer_is_expected_for_some_requests() -> None:
    large = LargeAnswers()
    assert not large.expects("a")
    large.note("a")
    assert [large.expects("a") for _ in range(40)] == [True] * 32 + [False] * 8
    assert not large.expects("b")


def test_the_oldest_large_answers_are_forgotten() -> None:
    large = LargeAnswers()
    for key in range(2000):
        large.note(key)
    assert [large.expects(key) for key in (0, 975, 976, 1999)] == [False, False, True, True]
