"""Large answers are remembered, but not forever, and only of the latest reads."""

from __future__ import annotations

import pytest

from memory_worker.contract.errors import AnswerTooLarge
from memory_worker.store.large_answers import LargeAnswers

MAX_BYTES = 1000


async def ask(answers: LargeAnswers, key: object, *, size: int = 10) -> list[str]:
    """Ask for an answer of ``size`` bytes; return over which connections it was asked for."""
    asked = []

    async def small() -> str:
        asked.append("small")
        if size > 100:
            raise AnswerTooLarge("too large", size)
        return "answer"

    async def large() -> str:
        asked.append("large")
        return "answer"

    assert await answers.ask(key, small, large, None) == "answer"
    return asked


async def test_a_large_answer_is_expected_some_times() -> None:
    answers = LargeAnswers(MAX_BYTES)
    assert await ask(answers, "a") == ["small"]
    assert await ask(answers, "a", size=MAX_BYTES) == ["small", "large"]
    assert [await ask(answers, "a") for _ in range(40)] == [["large"]] * 32 + [["small"]] * 8
    assert await ask(answers, "b") == ["small"]


async def test_the_oldest_are_forgotten() -> None:
    answers = LargeAnswers(MAX_BYTES)
    for key in range(2000):
        await ask(answers, key, size=MAX_BYTES)
    assert [await ask(answers, key) for key in (0, 975, 976, 1999)] == [["small"], ["small"], ["large"], ["large"]]


async def test_an_answer_above_the_limit_is_refused_and_not_remembered() -> None:
    answers = LargeAnswers(MAX_BYTES)
    with pytest.raises(AnswerTooLarge):
        await ask(answers, "a", size=MAX_BYTES + 1)
    assert await ask(answers, "a") == ["small"]
