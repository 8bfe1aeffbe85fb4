"""The rate of a drain: what counts of a backlog that goes down."""

from __future__ import annotations

import os

import pytest

from memory_worker.bench import drains
from memory_worker.bench.drains import drained
from memory_worker.contract.errors import MemoryWorkerError


class Clock:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "time", Clock())
    monkeypatch.setattr(drains, "_SAMPLE_S", 0)


async def figure_of(left: list[int], total: int) -> drains.Figure:
    samples = iter(left)

    async def waiting() -> int:
        return next(samples)

    return await drained(waiting, total, pids={"us": os.getpid()})


async def test_start_and_end_do_not_count() -> None:
    slow_start = [1000] * 20
    figure = await figure_of([*slow_start, 900, 800, 700, 600, 500, 400, 300, 200, 100, 40, 30, 20, 10, 0], 1000)
    assert figure.rate == pytest.approx(100)
    assert figure.calls == 800
    assert figure.cpu_us["us"] >= 0


async def test_a_backlog_that_is_gone_at_once_has_a_rate_all_the_same() -> None:
    assert (await figure_of([10, 0], 10)).rate == pytest.approx(10)
    assert (await figure_of([0], 0)).rate == 0


async def test_a_backlog_that_does_not_move_is_an_error_and_not_a_rate() -> None:
    with pytest.raises(MemoryWorkerError, match="500 of 1,000 wait"):
        await figure_of([500] * 1000, 1000)
