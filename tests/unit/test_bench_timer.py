"""The timer: it is never early, and the last time that it was given counts."""

from __future__ import annotations

import asyncio
import time

import pytest

from memory_worker.bench import timer as module
from memory_worker.bench.timer import Line, Timer


@pytest.mark.parametrize("platform", ["linux", "darwin"])
async def test_it_is_never_early(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", platform)
    rings: asyncio.Queue[float] = asyncio.Queue()
    timer = Timer(lambda: rings.put_nowait(time.perf_counter()))
    try:
        for after_s in (0.01, -1.0, 0.0, 0.002):
            due = time.perf_counter() + after_s
            timer.set(due)
            assert await asyncio.wait_for(rings.get(), 20) >= due
    finally:
        timer.close()


async def test_the_last_time_counts() -> None:
    rings: asyncio.Queue[float] = asyncio.Queue()
    timer = Timer(lambda: rings.put_nowait(time.perf_counter()))
    timer.set(time.perf_counter() + 3600)
    timer.set(time.perf_counter())
    await asyncio.wait_for(rings.get(), 20)
    timer.close()


async def test_a_line_does_everything_later_and_in_order() -> None:
    done: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    line, asked = Line(0.005), []
    for number in range(20):
        asked.append(time.perf_counter())
        line.later(lambda number=number: done.put_nowait((number, time.perf_counter())))
    for number in range(20):
        found, at = await asyncio.wait_for(done.get(), 20)
        assert found == number
        assert at >= asked[number] + 0.005
