from __future__ import annotations

import pytest

from memory_worker.contract.errors import ConfigurationError, StoreRefused, StoreUnavailable
from memory_worker.ingest.breaker import PROBE_WAIT_S, Breaker
from memory_worker.ingest.retry import RetryPolicy
from tests.unit.conftest import Clock


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(RetryPolicy(base_s=1.0, max_s=4.0), now=clock)


def outage(code: str = "UNAVAILABLE", retry_after_s: float | None = None) -> StoreUnavailable:
    return StoreUnavailable("down", code=code, retry_after_s=retry_after_s)


def test_a_closed_breaker_delays_no_drain(breaker: Breaker) -> None:
    assert breaker.state == "closed"
    assert [breaker.wait_s() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("error", [outage("INTERNAL"), outage("NOT_FOUND"), StoreRefused("x"), ConfigurationError("x")])
def test_an_error_of_one_collection_does_not_open_it(breaker: Breaker, error: Exception) -> None:
    breaker.failed(error)
    assert breaker.state == "closed"


def test_an_open_breaker_delays_all_drains(breaker: Breaker) -> None:
    breaker.failed(outage())
    assert breaker.state == "open"
    assert 0.5 <= breaker.wait_s() <= 1.0


def test_after_the_delay_one_drain_probes_and_the_others_wait(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(outage())
    clock.now_s += 1.0
    assert breaker.wait_s() == 0
    assert breaker.state == "half-open"
    assert breaker.wait_s() == PROBE_WAIT_S
    clock.now_s += PROBE_WAIT_S
    assert breaker.wait_s() == 0, "a probe without an answer must not keep it open for ever"


def test_a_success_closes_it(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(outage())
    clock.now_s += 1.0
    breaker.wait_s()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.wait_s() == 0


def test_a_failed_probe_opens_it_for_longer(breaker: Breaker, clock: Clock) -> None:
    for shortest in (0.5, 1.0, 2.0, 2.0):
        breaker.failed(outage())
        assert breaker.state == "open"
        assert shortest <= breaker.wait_s() <= 4.0
        clock.now_s += 4.0
        assert breaker.wait_s() == 0


def test_the_breaker_waits_as_long_as_the_server_asks(breaker: Breaker) -> None:
    breaker.failed(outage("RESOURCE_EXHAUSTED", retry_after_s=7.0))
    assert breaker.wait_s() == 7.0


def test_drains_that_fail_together_count_once(breaker: Breaker, clock: Clock) -> None:
    first, *others = (breaker.failed(outage()) for _ in range(8))
    assert others == [pytest.approx(first)] * 7
    clock.now_s += 1.0
    assert breaker.wait_s() == 0
    breaker.failed(outage())
    assert breaker.wait_s() <= 2.0
