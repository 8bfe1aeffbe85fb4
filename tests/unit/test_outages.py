"""What is said of outages, and how long they put drains off; what drains do is shown by tests/integration."""

from __future__ import annotations

import pytest

from memory_worker.contract.errors import NotReplicated, StoreRefused, StoreUnavailable
from memory_worker.ingest.outages import Outages
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.lease import Lease, LeaseState

SETTLE_S = 3.0


@pytest.fixture
def outages() -> Outages:
    return Outages(RetryPolicy(base_s=0.1, max_s=0.1), settle_s=SETTLE_S)


def failed(outages: Outages, error: Exception, *, in_doubt: bool = False) -> float:
    """Let a drain fail; return after how many seconds it wants to be rung again."""
    return outages.failed(Lease(0, 8, state=LeaseState.IN_DOUBT if in_doubt else LeaseState.HELD), error)


def test_none_yet(outages: Outages) -> None:
    assert outages.trouble(within_s=60) is None


@pytest.mark.parametrize("error", [StoreUnavailable("away", code="UNAVAILABLE"), StoreRefused("refused")])
def test_what_qdrant_said_last(outages: Outages, error: Exception) -> None:
    failed(outages, StoreUnavailable("before", code="INTERNAL"))
    failed(outages, error)
    assert outages.trouble(within_s=60) == str(error)
    assert outages.trouble(within_s=-1) is None


def test_that_replicas_of_redis_lag_is_no_trouble_with_qdrant(outages: Outages) -> None:
    failed(outages, NotReplicated("only 0 of 1 replicas of Redis confirmed within 1 s"))
    assert outages.trouble(within_s=60) is None


def test_what_may_still_be_applied_is_waited_out(outages: Outages) -> None:
    error = StoreUnavailable("no answer", code="INTERNAL")
    assert failed(outages, error, in_doubt=True) == SETTLE_S
    assert failed(outages, error) <= 0.1
