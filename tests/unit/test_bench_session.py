"""The rate of a drain: what counts of a backlog that goes down."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import pytest

from memory_worker.bench import session
from memory_worker.bench.loops import Figure
from memory_worker.bench.session import drained
from memory_worker.contract.errors import MemoryWorkerError


class Clock:
    """A clock that goes on by a second each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "time", Clock())
    monkeypatch.setattr(session, "_SAMPLE_S", 0)


async def figure_of(left: list[int], total: int, used: Iterator[float] | None = None) -> Figure:
    samples, used = iter(left), used or repeat(0.0)

    async def waiting() -> int:
        return next(samples)

    return await drained(waiting, total, lambda: {"us": next(used)})


async def test_start_and_end_do_not_count() -> None:
    slow_start = [1000] * 20
    figure = await figure_of([*slow_start, 900, 800, 700, 600, 500, 400, 300, 200, 100, 40, 30, 20, 10, 0], 1000)
    assert figure.rate == pytest.approx(100)
    assert (figure.calls, figure.sent) == (800, 1000)


async def test_the_cpu_time_is_that_of_what_counts() -> None:
    figure = await figure_of([1000, 900, 500, 100, 0], 1000, iter([0.0, 5.0, 5.1, 5.2, 9.0]))
    assert figure.cpu_us == {"us": pytest.approx(0.2 / 800 * 1e6)}


async def test_a_backlog_that_is_gone_at_once_has_a_rate_all_the_same() -> None:
    assert (await figure_of([10, 0], 10)).rate == pytest.approx(10)
    assert (await figure_of([0], 0)).rate == 0


async def test_a_backlog_that_does_not_move_is_an_error_and_not_a_rate() -> None:
    with pytest.raises(MemoryWorkerError, match="500 of 1,000 wait"):
        await figure_of([500] * 1000, 1000)
