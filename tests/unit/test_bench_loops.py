"""Closed and open loops: what counts, what does not, and from when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from memory_worker.bench.loops import Call, Check, Tally, closed_loop, due_times, open_loop
from memory_worker.bench.tasks import Task, looped

BLOCKED_S = 0.08


class Calls:
    """Calls that note who was called, with what, and how many were under way at once."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.most = self._now = 0

    async def __call__(self, prepared: Any) -> None:
        self.seen.append(prepared)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1


def tally(call: Call) -> Tally:
    return Tally(call, lambda number: number, lambda: None)


async def test_a_closed_loop_makes_each_call_once_and_does_not_count_those_that_warm_up() -> None:
    calls = Calls()
    figure = await closed_loop(tally(calls), first=10, count=20, callers=4, warmup=5)
    assert sorted(calls.seen) == list(range(10, 35))
    assert calls.most == 4
    assert (figure.loop, figure.calls, figure.sent, figure.callers) == ("closed", 20, 25, 4)
    assert figure.rate == pytest.approx(20 / figure.took_s)
    assert figure.p50_ms is not None


async def test_a_closed_loop_ends_when_its_time_is_over() -> None:
    async def slow(_: int) -> None:
        await asyncio.sleep(0.01)

    figure = await closed_loop(tally(slow), first=0, count=1_000_000, callers=2, seconds=0.05)
    assert 0 < figure.calls == figure.sent < 100


async def test_errors_are_counted_by_what_they_say_and_have_no_latency() -> None:
    async def call(number: int) -> None:
        if number % 2:
            raise ValueError("odd")

    figure = await closed_loop(tally(call), first=0, count=10, warmup=2)
    assert figure.errors == {"ValueError: odd": 6}  # those that warm up fail, too
    assert (figure.calls, figure.sent) == (5, 12)


async def test_a_check_is_not_timed_but_its_failure_counts() -> None:
    async def check() -> None:
        await asyncio.sleep(BLOCKED_S)

    async def refute() -> None:
        raise LookupError("not there")

    async def call(number: int) -> Check:
        return refute if number else check

    figure = await closed_loop(tally(call), first=0, count=2)
    assert figure.errors == {"LookupError: not there": 1}
    assert figure.max_ms is not None
    assert figure.max_ms < BLOCKED_S * 1000
    assert figure.took_s < BLOCKED_S


async def test_what_a_call_takes_is_made_before_the_clock_starts() -> None:
    def prepare(number: int) -> str:
        time.sleep(BLOCKED_S)
        return f"job {number}"

    calls = Calls()
    figure = await looped(calls, prepare)(Task(path="push", first=3, count=1), lambda _: None)
    assert calls.seen == ["job 3"]
    assert figure.max_ms is not None
    assert figure.max_ms < BLOCKED_S * 1000


def test_calls_of_an_open_loop_are_due_evenly_whatever_happens() -> None:
    assert due_times(5.0, 100, 4) == pytest.approx([5.0, 5.01, 5.02, 5.03])


async def test_an_open_loop_counts_from_when_a_call_was_due() -> None:
    """The first call blocks everything: those that were due meanwhile waited, and must say so."""

    async def call(number: int) -> None:
        if number == 0:
            time.sleep(BLOCKED_S)  # noqa: ASYNC251 - it blocks on purpose

    figure = await open_loop(tally(call), first=0, count=8, rate=100)
    assert (figure.loop, figure.calls, figure.sent, figure.asked_rate) == ("open", 8, 8, 100)
    assert figure.max_ms is not None
    assert figure.p50_ms is not None
    assert figure.max_ms >= BLOCKED_S * 1000
    assert figure.p50_ms >= BLOCKED_S * 1000 / 2 - 15  # a closed loop would call it nothing


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    answers = asyncio.Event()
    waiting = 0

    async def call(_: int) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 5:
            answers.set()
        await answers.wait()

    figure = await asyncio.wait_for(open_loop(tally(call), first=0, count=5, rate=500), 10)
    assert figure.calls == 5


async def test_a_task_with_a_rate_is_an_open_loop_behind_its_warmup() -> None:
    calls, ended = Calls(), []
    figure = await looped(calls)(Task(path="push", first=7, count=3, warmup=2, rate=1000), ended.append)
    assert calls.seen == [7, 8, 9, 10, 11]
    assert (figure.loop, figure.calls) == ("open", 3)
    assert sum(ended) == 5
