"""Comparisons: within a round, and told with their spread."""

from __future__ import annotations

import pytest

from memory_worker.bench import names
from memory_worker.bench.compare import Spread, compared, our_rate_to, spread
from memory_worker.bench.figures import Figure, Round

CALLERS = 32


def figure(rate: float, p50_ms: float | None = None, p99_ms: float | None = None) -> Figure:
    return Figure(loop="closed", calls=1, took_s=1, rate=rate, p50_ms=p50_ms, p99_ms=p99_ms)


def a_round(**changes: Figure) -> Round:
    found = {
        names.DRAIN: figure(9000),
        names.ARQ: figure(500),
        names.UPLOAD: figure(9000),
        names.by(names.PUSH, 1): figure(5000, p50_ms=0.2),
        names.by(names.UPSERT, 1): figure(1000, p50_ms=0.9),
        names.by(names.UPSERT, CALLERS): figure(2000, p50_ms=15),
        names.by(names.SEARCH, 1): figure(200, p50_ms=4, p99_ms=10),
        names.by(names.QUERY, 1): figure(700, p50_ms=1.5, p99_ms=3),
        names.by(names.SEARCH, CALLERS): figure(900, p50_ms=30),
        names.by(names.QUERY, CALLERS): figure(1000, p50_ms=30),
        names.visible_at(0.2): figure(75, p50_ms=12, p99_ms=40),
        names.DURING_INGEST: figure(50, p50_ms=8, p99_ms=25),
    }
    return {**found, **{getattr(names, name): value for name, value in changes.items()}}


def test_all_that_is_wanted_is_compared() -> None:
    found = compared([a_round()], CALLERS)
    assert [one.value.median for one in found] == pytest.approx([18, 1, 4.5, 0.2 / 0.9, 2.5, 0.9, 12, 40, 2.5])
    assert [one.met for one in found] == [True] * 9
    assert found[0].wanted == "at least 10"
    assert found[4].unit == "ms"


def test_rounds_are_compared_each_by_itself() -> None:
    """A machine that was slower in one round was so for both sides."""
    rounds = [a_round(DRAIN=figure(9000), ARQ=figure(1000)), a_round(DRAIN=figure(900), ARQ=figure(100))]
    assert compared(rounds, CALLERS)[0].value == Spread(9, 9, 9)


def test_the_median_decides() -> None:
    rounds = [a_round(DRAIN=figure(rate)) for rate in (1000, 6000, 90_000)]
    to_arq = compared(rounds, CALLERS)[0]
    assert to_arq.value == Spread(12, 2, 180)
    assert to_arq.met
    assert not compared([a_round(DRAIN=figure(4000))], CALLERS)[0].met


def test_what_was_not_measured_is_not_compared() -> None:
    assert compared([{names.DRAIN: figure(9000)}], CALLERS) == []
    assert compared([], CALLERS) == []
    failed = {**a_round(), names.ARQ: figure(0), names.by(names.QUERY, 1): figure(0)}
    assert len(compared([failed], CALLERS)) == 7


def test_a_peer_is_set_beside_what_we_do_instead() -> None:
    rounds = [a_round()]
    assert our_rate_to(names.UPLOAD, rounds, CALLERS) == Spread(1, 1, 1)
    assert our_rate_to(names.by(names.UPSERT, 1), rounds, CALLERS) == Spread(5, 5, 5)
    assert our_rate_to(names.by(names.QUERY, CALLERS), rounds, CALLERS) == Spread(0.9, 0.9, 0.9)
    assert our_rate_to(names.DRAIN, rounds, CALLERS) is None


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2, 1, 3)
    assert spread([]) is None
