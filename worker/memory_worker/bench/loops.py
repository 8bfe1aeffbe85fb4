"""How calls come: one behind the other, or at fixed times whether answered or not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from memory_worker.bench.figures import Figure, Loop, Quantiles

Check: TypeAlias = Callable[[], Awaitable[None]]
Call: TypeAlias = Callable[[Any], Awaitable[Check | None]]
"""What is timed: takes what was prepared for its number; may return a check of its result, which is not timed."""

_LEAD_S = 0.01
_LONGEST_MESSAGE = 120


class Tally:
    """Times calls, and counts how they end."""

    def __init__(self, call: Call, prepare: Callable[[int], Any], on_call: Callable[[], None]) -> None:
        self._call = call
        self._prepare = prepare
        self._on_call = on_call
        self._times_s: list[float] = []
        self._errors: Counter[str] = Counter()
        self._sent = 0
        self.checking_s = 0.0

    async def call(self, number: int, *, due: float | None = None) -> None:
        """Make the call of this number; its time counts from ``due``, or from now. Errors count, and end nothing."""
        prepared = self._prepare(number)
        self._sent += 1
        started = time.perf_counter() if due is None else due
        try:
            check = await self._call(prepared)
            ended = time.perf_counter()
            if check is not None:
                await check()
        except Exception as error:  # noqa: BLE001  # whatever a call ends with is a figure
            self._errors[described(error)] += 1
            return
        self._times_s.append(ended - started)
        self.checking_s += time.perf_counter() - ended
        self._on_call()

    def warmed_up(self) -> None:
        """Forget the times so far; errors are not forgotten."""
        self._times_s.clear()
        self.checking_s = 0.0

    def figure(self, loop: Loop, *, took_s: float, callers: int = 1, asked_rate: float = 0.0) -> Figure:
        """Return what it came to."""
        return Figure(
            loop=loop,
            calls=len(self._times_s),
            took_s=took_s,
            rate=len(self._times_s) / took_s,
            sent=self._sent,
            callers=callers,
            asked_rate=asked_rate,
            errors=dict(self._errors),
            **msgspec.structs.asdict(Quantiles.of(self._times_s)),
        )


def described(error: BaseException) -> str:
    """Return what an error is counted as."""
    return f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]


async def closed_loop(
    tally: Tally, *, first: int, count: int, callers: int = 1, warmup: int = 0, seconds: float = 0.0
) -> Figure:
    """Make the calls ``first`` to ``first + warmup + count``, each of ``callers`` waiting for its answer.

    ``seconds`` (0: no limit) ends it earlier. The first ``warmup`` calls are made, but not counted.
    """
    await _each_waits(tally, iter(range(first, first + warmup)), callers)
    tally.warmed_up()
    started = time.perf_counter()
    until = started + seconds if seconds else float("inf")
    await _each_waits(tally, iter(range(first + warmup, first + warmup + count)), callers, until)
    took_s = time.perf_counter() - started - tally.checking_s / callers
    return tally.figure("closed", took_s=took_s, callers=callers)


async def _each_waits(tally: Tally, numbers: Iterator[int], callers: int, until: float = float("inf")) -> None:
    async def caller() -> None:
        while time.perf_counter() < until and (number := next(numbers, None)) is not None:
            await tally.call(number)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def open_loop(tally: Tally, *, first: int, count: int, rate: float) -> Figure:
    """Make ``count`` calls, ``rate`` a second, at fixed times, however long the answers take."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter() + _LEAD_S
    due = due_times(started, rate, count)
    calls: list[asyncio.Task[None]] = []
    all_sent = asyncio.Event()

    def send(position: int) -> None:
        calls.append(loop.create_task(tally.call(first + position, due=due[position])))
        if position == count - 1:
            all_sent.set()

    pacer = Pacer(due, lambda position: loop.call_soon_threadsafe(send, position))
    try:
        await all_sent.wait()
        await asyncio.gather(*calls)
    finally:
        pacer.stop()
    return tally.figure("open", took_s=time.perf_counter() - started, asked_rate=rate)


def due_times(started: float, rate: float, count: int) -> list[float]:
    """Return when each of ``count`` calls is due, in seconds: evenly, ``rate`` a second, whatever happens to others."""
    return [started + position / rate for position in range(count)]


class Pacer:
    """Says when a call is due, from a thread of its own: uvloop's timers tick in milliseconds, and early at times."""

    def __init__(self, due: list[float], send: Callable[[int], object]) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(due, send), name="pacer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self, due: list[float], send: Callable[[int], object]) -> None:
        for position, at in enumerate(due):
            wait_s = at - time.perf_counter()
            if wait_s > 0 and self._stopped.wait(wait_s):
                return
            send(position)
