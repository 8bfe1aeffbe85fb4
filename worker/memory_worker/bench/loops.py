"""Make calls in a closed or an open loop, and compute their figures.

In a closed loop each caller waits for the answer before its next call. In an open loop calls come at fixed times.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import numpy as np

from memory_worker.bench.timer import Timer

_LEAD_S, _LONGEST_MESSAGE = 0.01, 120
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls to make for the numbers from ``first`` on: ``warmup`` calls that do not count, then ``count`` that do.

    ``callers`` make them in a closed loop for at most ``seconds``, or without a limit if that is 0. With a ``rate``
    (numbers per second) it is an open loop. One call takes ``group`` numbers. With ``raw`` the figure has every time.
    """

    path: str
    first: int = 0
    count: int
    callers: int = 1
    warmup: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    group: int = 1
    raw: bool = False


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measurement: ``rate`` in successful calls per second, and percentiles of their latencies in milliseconds.

    ``calls`` is the number of calls that succeeded, ``sent`` that of all calls with the warm-up. ``errors`` counts
    failed calls by their error. ``late_ms`` has percentiles of how much later than due the calls of an open loop were
    sent. ``cpu_us`` is the CPU time of each part per call, in microseconds. ``times`` is for `merged` and the timeline.
    """

    calls: int
    sent: int
    rate: float
    ms: dict[str, float] = {}
    errors: dict[str, int] = {}
    late_ms: dict[str, float] = {}
    cpu_us: dict[str, float] = {}
    times: list[list[float]] = []


Round: TypeAlias = dict[str, Figure]
"""The figures of one round, by name."""
Call: TypeAlias = Callable[[Any], Awaitable[object]]
"""The call that is timed. If it checks its result, it returns the time at which it ended before the check
(`time.perf_counter`)."""
Path: TypeAlias = Callable[[Task], Awaitable[Figure]]
"""Runs a task and returns its figure."""


def looped(call: Call, prepare: Callable[[Any], Any], *, groups: bool = False) -> Path:
    """Return a path that makes one call for each number. ``prepare`` turns the number into the argument of the call.

    With ``groups`` it makes one call for each group of numbers. The figure then has a rate, but no latencies.
    """

    async def run(task: Task) -> Figure:
        tally = _Tally(call, prepare if groups else lambda numbers: prepare(numbers[0]))
        numbers = range(task.first, task.first + task.warmup + task.count)
        await tally.closed(_cut(numbers[: task.warmup], 1), task.callers)
        tally = _Tally(call, tally.prepare, sent=tally.sent, errors=tally.errors)
        counted = _cut(numbers[task.warmup :], task.group)
        if task.rate:
            took_s = await tally.open(counted, task.rate)
        else:
            took_s = await tally.closed(counted, task.callers, task.seconds)
        times = [[], tally.late_s] if groups else [tally.times_s, tally.late_s]
        found = _figure(tally.calls, tally.sent, took_s, times, tally.errors)
        return msgspec.structs.replace(found, times=[*times, [took_s]]) if task.raw else found

    return run


def _figure(
    calls: int, sent: int, took_s: float, times: Sequence[Sequence[float]], errors: Mapping[str, int]
) -> Figure:
    ms, late_ms = map(percentiles_ms, times[:2])
    return Figure(calls=calls, sent=sent, rate=calls / took_s, ms=ms, late_ms=late_ms, errors=dict(errors))


def merged(figures: Sequence[Figure]) -> Figure:
    """Return the figure of several measurements of the same, which have their ``times``."""
    calls, sent = sum(figure.calls for figure in figures), sum(figure.sent for figure in figures)
    times = [[time_s for figure in figures for time_s in figure.times[part]] for part in range(3)]
    errors = sum((Counter(figure.errors) for figure in figures), Counter[str]())
    return _figure(calls, sent, sum(times[2]), times, errors)


def _cut(numbers: range, size: int) -> Iterator[range]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def percentiles_ms(times_s: Sequence[float]) -> dict[str, float]:
    """Return percentiles in milliseconds. Each is the smallest latency that this share of all calls does not exceed."""
    if not times_s:
        return {}
    found = np.quantile(np.array(times_s) * 1000, [*_SHARES.values()], method="inverted_cdf")
    return dict(zip(_SHARES, found.tolist(), strict=True))


@dataclass(slots=True)
class _Tally:
    """Times calls and counts their errors. A failed call has no latency, and the loop continues."""

    call: Call
    prepare: Callable[[range], Any]
    calls: int = 0
    sent: int = 0
    times_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    checking_s: float = 0.0

    async def closed(self, groups: Iterator[range], callers: int, limit_s: float = 0.0) -> float:
        """Run a closed loop. Return its seconds, without the time that the checks took."""
        started = time.perf_counter()
        until = started + limit_s if limit_s else float("inf")

        async def caller() -> None:
            while time.perf_counter() < until and (numbers := next(groups, None)) is not None:
                await self.timed(len(numbers), self.prepare(numbers))

        await asyncio.gather(*(caller() for _ in range(callers)))
        return time.perf_counter() - started - self.checking_s / callers

    async def open(self, groups: Iterator[range], rate: float) -> float:
        """Run an open loop: start each call when it is due, however long the answers take. Return its seconds.

        Latencies count from the due time, so a late start is part of the latency (no coordinated omission). The next
        argument is prepared behind the start of a call.
        """
        loop = asyncio.get_running_loop()
        calls: list[asyncio.Task[None]] = []
        all_sent = loop.create_future()
        started = due = time.perf_counter() + _LEAD_S
        numbers, argument = range(0), None

        def prepare() -> None:
            nonlocal numbers, argument
            numbers = next(groups, range(0))
            if numbers:
                argument = self.prepare(numbers)
                timer.set(due)
            else:
                all_sent.set_result(None)

        def send() -> None:
            nonlocal due
            calls.append(loop.create_task(self.timed(len(numbers), argument, due)))
            due += len(numbers) / rate
            loop.call_soon(prepare)

        timer = Timer(send)
        prepare()
        try:
            await all_sent
        finally:
            timer.close()
        await asyncio.gather(*calls)
        return time.perf_counter() - started

    async def timed(self, count: int, argument: Any, due: float | None = None) -> None:
        self.sent += count
        started = time.perf_counter()
        if due is not None:
            self.late_s.append(started - due)
            started = due
        try:
            result = await self.call(argument)
            ended = result if isinstance(result, float) else time.perf_counter()
        except Exception as error:  # noqa: BLE001  # every error is counted
            self.errors[f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]] += 1
            return
        self.times_s.append(ended - started)
        self.calls += count
        self.checking_s += time.perf_counter() - ended
