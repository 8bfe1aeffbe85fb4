"""The questions of the demo, and what searches find for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

import msgspec
from msgspec import UNSET

from memory_worker.client.blocking import SyncMemoryQueue
from memory_worker.contract import Hit
from memory_worker.demo.dataset import Question


class Answer(msgspec.Struct, frozen=True):
    """What a search found. ``right`` says whether that is what the data set expects, and ``deleted`` whether the app
    has deleted the expected answer, so that nothing must be found."""

    question: Question
    hits: list[Hit]
    took_ms: float
    right: bool
    deleted: bool

    @property
    def text(self) -> str:
        """The text of the best hit."""
        payload = self.hits[0].payload if self.hits else {}
        text = str(payload.get("value", payload.get("text", "")))
        return " ".join(text.replace("\n", ": ", 1).split())  # the first line of a chunk is its title


def ask(queue: SyncMemoryQueue, questions: Iterable[Question], gone: Collection[str]) -> list[Answer]:
    """Search for each question. ``gone`` are the ids of deleted points. Raises `ReadFailed`, `QueueUnavailable`."""
    answers = []
    for question in questions:
        started = time.perf_counter()
        hits = _search(queue, question)
        took_ms = (time.perf_counter() - started) * 1000
        expected = tuple(point_id for point_id in question.expected if point_id not in gone)
        best = tuple(hit.point_id for hit in hits[: len(expected)])
        right = best == expected and bool(hits) == bool(expected)
        answers.append(Answer(question, hits, took_ms, right, deleted=expected != question.expected))
    return answers


def _search(queue: SyncMemoryQueue, question: Question) -> list[Hit]:
    return queue.search(
        user_id=question.user_id,
        vector=question.vector,
        kind=question.kind,
        limit=question.limit,
        min_score=question.min_score,
        category=UNSET if question.category is None else question.category,
        group_key=UNSET if question.group_key is None else question.group_key,
    )
