"""The recorded outages and their delays. The behaviour of drains is tested in tests/integration."""

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
    """Let a drain fail. Return after how many seconds its partition must be drained again."""
    return outages.record_outage(Lease(0, 8, state=LeaseState.IN_DOUBT if in_doubt else LeaseState.HELD), error)


def test_without_a_failure_there_is_no_error(outages: Outages) -> None:
    assert outages.recent_error(within_s=60) is None


@pytest.mark.parametrize("error", [StoreUnavailable("away", code="UNAVAILABLE"), StoreRefused("refused")])
def test_the_last_error_counts_for_a_time(outages: Outages, error: Exception) -> None:
    failed(outages, StoreUnavailable("before", code="INTERNAL"))
    failed(outages, error)
    assert outages.recent_error(within_s=60) == str(error)
    assert outages.recent_error(within_s=-1) is None


def test_lagging_replicas_of_redis_are_no_error_of_qdrant(outages: Outages) -> None:
    failed(outages, NotReplicated("only 0 of 1 replicas of Redis confirmed within 1 s"))
    assert outages.recent_error(within_s=60) is None


def test_a_request_in_doubt_delays_the_next_one(outages: Outages) -> None:
    error = StoreUnavailable("no answer", code="INTERNAL")
    assert failed(outages, error, in_doubt=True) == SETTLE_S
    assert failed(outages, error) <= 0.1
