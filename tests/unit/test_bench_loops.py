"""Closed and open loops: what counts, what does not, and from when. The clock is the test's own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.bench import loops
from memory_worker.bench.loops import Call, Figure, Task, looped, merged, percentiles_ms


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    class Timer:
        """Rings when everything else has been done, and always on time."""

        def __init__(self, ring: Callable[[], None]) -> None:
            self.ring = ring

        def set(self, due: float) -> None:
            asyncio.get_running_loop().call_soon(self.at, due)

        def at(self, due: float) -> None:
            made.now = max(made.now, due)
            self.ring()

        def close(self) -> None:
            pass

    monkeypatch.setattr(loops, "time", made)
    monkeypatch.setattr(loops, "Timer", Timer)
    return made


async def carried_out(call: Call, **task: Any) -> Figure:
    return await looped(call, lambda number: number)(Task(path="push", **task))


async def test_a_closed_loop_makes_each_call_once_and_does_not_count_those_that_warm_up(clock: Clock) -> None:
    seen, most, now = [], 0, 0

    async def call(number: int) -> None:
        nonlocal most, now
        seen.append(number)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        clock.sleep(0.01)
        now -= 1

    figure = await carried_out(call, first=10, count=20, callers=4, warmup=5)
    assert sorted(seen) == list(range(10, 35))
    assert most == 4
    assert (figure.calls, figure.sent) == (20, 25)
    assert figure.rate == pytest.approx(100)


async def test_a_closed_loop_ends_when_its_time_is_over(clock: Clock) -> None:
    async def call(_: int) -> None:
        clock.sleep(0.1)

    figure = await carried_out(call, count=1_000_000, seconds=0.45)
    assert (figure.calls, figure.sent) == (5, 5)
    assert figure.ms == pytest.approx(dict.fromkeys(("p50", "p90", "p99", "max"), 100))


async def test_a_call_that_fails_is_counted_by_how_it_ended_and_has_no_latency(clock: Clock) -> None:
    async def call(number: int) -> None:
        clock.sleep(0.1)
        if number % 2:
            raise ValueError("odd")

    figure = await carried_out(call, count=10, warmup=2)
    assert figure.errors == {"ValueError: odd": 6}  # those that warm up fail, too
    assert (figure.calls, figure.sent) == (5, 12)


async def test_a_check_is_not_timed_but_its_failure_counts(clock: Clock) -> None:
    async def call(number: int) -> float:
        clock.sleep(0.1)
        ended = clock.now
        clock.sleep(5)
        if number:
            raise LookupError("not there")
        return ended

    figure = await carried_out(call, count=1)
    assert figure.ms["max"] == pytest.approx(100)
    assert figure.rate == pytest.approx(10)
    assert (await carried_out(call, first=1, count=1)).errors == {"LookupError: not there": 1}


async def test_arguments_are_made_before_the_clock_starts(clock: Clock) -> None:
    async def call(prepared: str) -> None:
        assert prepared == "job 3"
        clock.sleep(0.1)

    def prepare(number: int) -> str:
        clock.sleep(5)
        return f"job {number}"

    figure = await looped(call, prepare)(Task(path="push", first=3, count=1))
    assert figure.errors == {}
    assert figure.ms["max"] == pytest.approx(100)


async def test_a_group_is_one_call_and_each_number_counts(clock: Clock) -> None:
    seen = []

    async def call(numbers: range) -> None:
        seen.append(numbers)
        clock.sleep(1)

    path = looped(call, lambda numbers: numbers, groups=True)
    figure = await path(Task(path="push, many", first=5, count=25, group=10))
    assert seen == [range(5, 15), range(15, 25), range(25, 30)]
    assert (figure.calls, figure.sent, figure.rate, figure.ms) == (25, 25, pytest.approx(25 / 3), {})


async def test_calls_of_an_open_loop_come_at_fixed_times_and_count_from_then(clock: Clock) -> None:
    """No call is answered before the last has been made, 10 s after the start: each waited since it was due."""
    started, answers, seen = clock.now, asyncio.Event(), []

    async def call(number: int) -> None:
        seen.append(number)
        if number == 10:
            clock.now = started + 10
            answers.set()
        await answers.wait()

    figure = await asyncio.wait_for(carried_out(call, first=7, count=4, rate=100), 10)
    assert seen == [7, 8, 9, 10]
    first = 10 - loops._LEAD_S
    assert figure.ms["max"] == pytest.approx(1000 * first)
    assert figure.ms["p50"] == pytest.approx(1000 * (first - 0.02))
    assert figure.rate == pytest.approx(4 / first)
    assert figure.late_ms["max"] == pytest.approx(0, abs=1e-6)


async def test_a_late_start_of_an_open_loop_is_known_and_counts(clock: Clock) -> None:
    async def call(number: int) -> None:
        if number == 0:
            clock.sleep(0.05)  # as if this process had something else to do

    figure = await carried_out(call, count=3, rate=100)
    assert figure.late_ms["max"] == pytest.approx(40)
    assert figure.late_ms["p50"] == pytest.approx(30)
    assert figure.ms["p50"] == pytest.approx(40)


async def test_measurements_of_the_same_become_one(clock: Clock) -> None:
    async def call(number: int) -> None:
        clock.sleep(0.1 * number)
        if number == 4:
            raise ValueError("four")

    first, second = [await carried_out(call, first=first, count=2, raw=True) for first in (1, 3)]
    figure = merged([first, second])
    assert (figure.calls, figure.sent, figure.errors) == (3, 4, {"ValueError: four": 1})
    assert figure.rate == pytest.approx(3 / 1.0)
    assert figure.ms == pytest.approx({"p50": 200, "p90": 300, "p99": 300, "max": 300})
    assert figure.times == []


async def test_an_open_loop_comes_after_its_warmup() -> None:
    seen = []

    async def call(number: int) -> None:
        seen.append(number)

    figure = await carried_out(call, first=7, count=3, warmup=2, rate=1000)
    assert seen == [7, 8, 9, 10, 11]
    assert (figure.calls, figure.sent) == (3, 5)


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_a_percentile_is_the_smallest_latency_that_so_many_do_not_exceed(times_s: list[float]) -> None:
    ordered = sorted(1000 * time_s for time_s in times_s)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        assert percentiles_ms(times_s)[name] == pytest.approx(ordered[math.ceil(share * len(ordered)) - 1])


def test_without_calls_there_are_no_percentiles() -> None:
    assert percentiles_ms([]) == {}
