"""The counters of processes, and the rates and latencies of all of them together."""

from __future__ import annotations

import pytest

from memory_worker.inspection.fleet import Member, Report, Reporter, _decoded
from memory_worker.inspection.history import EVERY_S, OVER_S, History
from memory_worker.queue.processes import Process
from memory_worker.telemetry.counters import BOUNDS_S, Counters, counters, growth, quantile_s, sum_of
from memory_worker.telemetry.metrics import JOBS, PUSH_TO_APPLIED, READ_DURATION, READS
from memory_worker.wire.keys import Keys
from tests.unit.conftest import Clock
from tests.unit.queue_stats import STATUS


def member(name: str, counted: Counters | None, *, started_s: float = 0.0) -> Member:
    process = Process(name, "all", "host", 1)
    return Member(process, None if counted is None else Report("0.2.0", started_s, 1, counted))


def buckets(**counts: int) -> tuple[int, ...]:
    return tuple(counts.get(f"b{place}", 0) for place in range(len(BOUNDS_S) + 1))


class TestCounters:
    def test_they_are_those_of_this_process(self) -> None:
        before = counters()
        JOBS.labels("upsert", "memory", "applied").inc(5)
        JOBS.labels("purge", "all", "dead").inc(2)
        READS.labels("search", "ok").inc(3)
        READS.labels("search", "timeout").inc()
        PUSH_TO_APPLIED.observe(0.0001)
        PUSH_TO_APPLIED.observe(1e9)
        READ_DURATION.labels("search").observe(0.002)
        READ_DURATION.labels("get").observe(0.002)
        found = growth(before, counters())
        assert (found.applied, found.dead, found.reads, found.failed_reads) == (5, 2, 4, 1)
        assert found.applied_seconds == buckets(b0=1, b15=1)
        assert found.read_seconds == buckets(b1=2)

    def test_growth_is_never_negative(self) -> None:
        assert growth(
            Counters(applied=9, applied_seconds=(5,)), Counters(applied=2, applied_seconds=(1, 2))
        ) == Counters(applied=0, applied_seconds=(1, 2))

    def test_totals_are_sums(self) -> None:
        assert sum_of([Counters(reads=1, read_seconds=(1, 2)), Counters(reads=2), Counters(read_seconds=(3, 4))]) == (
            Counters(reads=3, read_seconds=(4, 6))
        )
        assert sum_of([]) == Counters()

    @pytest.mark.parametrize(
        ("counts", "quantile", "seconds"),
        [
            ({}, 0.5, None),
            ({"b0": 10}, 0.5, 0.0005),
            ({"b0": 5, "b2": 5}, 0.5, 0.001),
            ({"b2": 100}, 0.99, 0.0025 + 0.0025 * 0.99),
            ({"b15": 1}, 0.5, BOUNDS_S[-1]),
        ],
    )
    def test_quantiles_are_estimated_within_a_bucket(
        self, counts: dict[str, int], quantile: float, seconds: float | None
    ) -> None:
        assert quantile_s(buckets(**counts), quantile) == pytest.approx(seconds)


class TestReports:
    def test_a_report_is_read_again(self) -> None:
        report = _decoded(Reporter()())
        assert report is not None
        assert report.memory_bytes > 1_000_000
        assert report.counters == counters()

    @pytest.mark.parametrize("text", [None, b"", b"ingest", b"\xc1", b"\x81\xa7version\x01"])
    def test_what_another_version_has_written_is_ignored(self, text: bytes | None) -> None:
        assert _decoded(text) is None


class TestHistory:
    @pytest.fixture
    def history(self, clock: Clock) -> History:
        return History(None, Keys("mw"), lambda: STATUS, now=clock)  # type: ignore[arg-type]  # it is not run

    def test_rates_are_of_all_processes(self, history: History, clock: Clock) -> None:
        history.add([member("a", Counters(applied=100)), member("b", Counters(applied=10, reads=5)), member("c", None)])
        assert history.samples() == []
        clock.now_s += 10
        history.add(
            [member("a", Counters(applied=150)), member("b", Counters(applied=60, reads=25)), member("c", None)]
        )
        (sample,) = history.samples()
        assert (sample.applied, sample.reads, sample.alive, sample.reporting) == (10, 2, 3, 2)
        assert (sample.waiting, sample.oldest_age_s) == (4, 1.5)
        assert sample.applied_p50_s is None

    def test_a_process_that_has_just_started_counts_from_zero(self, history: History, clock: Clock) -> None:
        history.add([member("a", Counters(applied=100))])
        clock.now_s += 10
        history.add([member("a", Counters(applied=100)), member("b", Counters(applied=40), started_s=clock.now_s - 3)])
        assert history.samples()[-1].applied == 4

    def test_a_process_whose_report_was_missing_adds_no_peak(self, history: History, clock: Clock) -> None:
        history.add([member("a", Counters(applied=1_000_000))])
        clock.now_s += 10
        history.add([member("a", None)])
        clock.now_s += 10
        history.add([member("a", Counters(applied=1_000_100))])
        assert [sample.applied for sample in history.samples()] == [0, 0]

    def test_latencies_are_those_since_the_last_sample(self, history: History, clock: Clock) -> None:
        history.add([member("a", Counters(applied_seconds=buckets(b9=1000)))])
        clock.now_s += 10
        history.add([member("a", Counters(applied_seconds=buckets(b9=1000, b0=10)))])
        assert history.samples()[-1].applied_p99_s == pytest.approx(0.00099)

    def test_an_hour_is_kept(self, history: History, clock: Clock) -> None:
        for _ in range(1000):
            history.add([])
            clock.now_s += EVERY_S
        assert len(history.samples()) == OVER_S / EVERY_S
        clock.now_s += OVER_S
        assert history.samples() == []
