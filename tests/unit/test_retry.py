from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.ingest.retry import MAX_RETRY_AFTER_S, RetryPolicy

POLICY = RetryPolicy(base_s=0.1, max_s=4.0)

TABLE = [
    # failures, retry_after_s, chance, delay
    (1, None, 0.0, 0.1),
    (1, None, 1.0, 0.05),
    (1, None, 0.5, 0.075),
    (2, None, 0.0, 0.2),
    (3, None, 0.0, 0.4),
    (6, None, 0.0, 3.2),
    (7, None, 0.0, 4.0),
    (7, None, 1.0, 2.0),
    (100, None, 0.0, 4.0),
    (10**9, None, 0.0, 4.0),
    (1, 2.5, 0.0, 2.5),
    (1, 0.0, 0.0, 0.1),
    (7, 2.5, 0.0, 4.0),
    (7, 2.5, 1.0, 2.5),
    (1, 30.0, 0.0, 30.0),
    pytest.param(1, 86_400.0, 0.0, MAX_RETRY_AFTER_S, id="the-engine-asks-for-a-day"),
]


@pytest.mark.parametrize(("failures", "retry_after_s", "chance", "expected"), TABLE)
def test_the_delay_after_so_many_failures(
    failures: int, retry_after_s: float | None, chance: float, expected: float
) -> None:
    delay = POLICY.delay_s(failures, retry_after_s=retry_after_s, chance=chance)
    assert delay == pytest.approx(expected)


@given(st.integers(1, 2**40))
def test_a_random_delay_is_between_half_of_it_and_the_maximum(failures: int) -> None:
    whole = POLICY.delay_s(failures, chance=0.0)
    assert whole / 2 <= POLICY.delay_s(failures) <= whole <= POLICY.max_s


def test_delays_differ() -> None:
    assert len({POLICY.delay_s(5) for _ in range(20)}) > 1
