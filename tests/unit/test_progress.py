"""The line that says how a worker is doing, and the readings behind it."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.runtime.progress import Progress
from memory_worker.telemetry.metrics import JOBS, READ_DURATION, READS
from memory_worker.telemetry.reading import quantile
from tests.unit.queue_stats import STATUS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record.fields for record in caplog.records if record.getMessage() == "progress"]  # type: ignore[attr-defined]
    caplog.clear()
    return found


def test_it_has_what_was_done_since_the_last_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    JOBS.labels("upsert", "memory", "applied").inc(1_000)
    progress = Progress(lambda: None, now=clock)
    for _ in range(2):
        JOBS.labels("upsert", "memory", "applied").inc(60)
        JOBS.labels("upsert", "unknown", "dead").inc(2)
        READS.labels("search", "ok").inc(100)
        for _ in range(100):
            READ_DURATION.labels("search").observe(0.004)
        clock.now += 30
        progress.report()
    expected = {"applied": 60, "per_second": 2.0, "dead": 2, "waiting": 0, "oldest_s": 0.0, "reads": 100}
    first, second = lines(caplog)
    assert first == second
    assert 2.5 < first.pop("read_p99_ms") <= 5
    assert first == expected


def test_nothing_is_written_while_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Progress(lambda: None).report()
    assert lines(caplog) == []


def test_a_queue_that_waits_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Progress(lambda: STATUS).report()
    [line] = lines(caplog)
    assert line["waiting"] == STATUS.waiting > 0
    assert line["oldest_s"] == round(STATUS.oldest_age_s, 1)
    assert line["read_p99_ms"] is None


@pytest.mark.parametrize(
    ("share", "after", "expected"),
    [
        (0.5, {1.0: 0, 2.0: 10, float("inf"): 10}, 1.5),
        (0.99, {1.0: 99, 2.0: 100, float("inf"): 100}, 1.0),
        (0.99, {1.0: 0, 2.0: 0, float("inf"): 5}, 2.0),
        (0.99, {1.0: 0, float("inf"): 0}, None),
        (0.99, {}, None),
    ],
)
def test_quantiles_are_spread_evenly_within_a_bucket(
    share: float, after: dict[float, float], expected: float | None
) -> None:
    assert quantile(share, {}, after) == expected
    before = dict.fromkeys(after, 7.0)
    moved = {bound: count + 7 for bound, count in after.items()}
    assert quantile(share, before, moved) == expected
