"""How many lines an outage writes to the log."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.ingest.outage_log import REPORT_EVERY_S, OutageLog


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> OutageLog:
    return OutageLog(now=clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    found = [(record.getMessage(), record.fields) for record in caplog.records]  # type: ignore[attr-defined]
    caplog.clear()
    return found


def fail(log: OutageLog, reason: str = "UNAVAILABLE") -> None:
    log.failed(3, reason, ValueError("away"), delay_s=0.5)


def test_it_writes_a_line_at_the_beginning_each_minute_and_at_the_end(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fail(log)
    first = {"reason": "UNAVAILABLE", "partition": 3, "since_s": 0, "failures": 1, "retry_in_s": 0.5, "error": "away"}
    assert lines(caplog) == [("outage", first)]
    for clock.now in range(1001, 1000 + int(REPORT_EVERY_S)):
        fail(log)
    assert lines(caplog) == []
    clock.now = 1000 + REPORT_EVERY_S
    fail(log)
    assert lines(caplog) == [("outage", {**first, "since_s": REPORT_EVERY_S, "failures": 61})]
    clock.now += 5
    log.ended()
    log.ended()
    assert lines(caplog) == [("outage_over", {"lasted_s": REPORT_EVERY_S + 5, "failures": 61})]


def test_another_reason_has_a_line_of_its_own(log: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    for reason in ("UNAVAILABLE", "REFUSED", "UNAVAILABLE", "REFUSED"):
        fail(log, reason)
    assert [fields["reason"] for _, fields in lines(caplog)] == ["UNAVAILABLE", "REFUSED"]


def test_an_outage_that_comes_and_goes_has_one_pair_of_lines_per_minute(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for clock.now in range(1000, 1000 + 2 * int(REPORT_EVERY_S)):
        fail(log)
        log.ended()
    assert [event for event, _ in lines(caplog)] == ["outage", "outage_over"] * 2
