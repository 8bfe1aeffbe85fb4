"""What a process that calls is told to do, and what it tells: one JSON document a line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from memory_worker.bench.figures import Figure
from memory_worker.bench.loops import Call, Tally, closed_loop, open_loop


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls to make: ``count`` of them, numbered from ``first``, behind ``warmup`` others that do not count.

    By ``callers`` at once in a closed loop of at most ``seconds`` (0: no limit); or, with a ``rate`` (calls a second),
    in an open one.
    """

    path: str
    first: int = 0
    count: int
    callers: int = 1
    warmup: int = 0
    seconds: float = 0.0
    rate: float = 0.0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Calls that have ended so far."""

    done: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What the tasks came to, in their order."""

    figures: list[Figure]


OnCalls: TypeAlias = Callable[[int], None]
Path: TypeAlias = Callable[[Task, OnCalls], Awaitable[Figure]]
"""Does a task, and tells how many calls have ended whenever some have."""
Paths: TypeAlias = Mapping[str, Path]


def looped(call: Call, prepare: Callable[[int], Any] = lambda number: number) -> Path:
    """Return a path that makes one call for each number, of what ``prepare`` makes of it beforehand."""

    async def run(task: Task, on_calls: OnCalls) -> Figure:
        tally = Tally(call, prepare, lambda: on_calls(1))
        if not task.rate:
            return await closed_loop(
                tally,
                first=task.first,
                count=task.count,
                callers=task.callers,
                warmup=task.warmup,
                seconds=task.seconds,
            )
        await closed_loop(tally, first=task.first, count=0, warmup=task.warmup)
        return await open_loop(tally, first=task.first + task.warmup, count=task.count, rate=task.rate)

    return run
