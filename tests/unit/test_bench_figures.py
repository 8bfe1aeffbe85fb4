"""Quantiles: the smallest value that a share of all does not exceed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.bench.figures import Figure, Quantiles, quantile

HUNDRED = [float(n) for n in range(1, 101)]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        (HUNDRED, 0.5, 50.0),
        (HUNDRED, 0.9, 90.0),
        (HUNDRED, 0.99, 99.0),
        (HUNDRED, 1.0, 100.0),
        (HUNDRED, 0.0, 1.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0], 0.51, 2.0),
        ([1.0, 2.0, 3.0], 0.99, 3.0),
    ],
)
def test_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_at_least_that_share_does_not_exceed_a_quantile(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_quantiles_are_told_in_milliseconds() -> None:
    found = Quantiles.of([0.003, 0.001, 0.002])
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (2.0, 3.0, 3.0)


def test_without_calls_there_are_no_quantiles() -> None:
    assert Quantiles.of([]) == Quantiles()
    assert Figure(loop="closed", calls=0, took_s=1, rate=0).p50_ms is None
