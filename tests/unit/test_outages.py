"""How outages are reported, and for how long they delay drains. The integration tests show what drains do."""

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


@pytest.mark.parametrize("error", [StoreUnavailable("away", code="UNAVAILABLE"), StoreRefused("refused")])
def test_the_last_error_of_qdrant_is_reported(outages: Outages, error: Exception) -> None:
    assert outages.recent_error(within_s=60) is None
    failed(outages, StoreUnavailable("before", code="INTERNAL"))
    failed(outages, error)
    assert outages.recent_error(within_s=60) == str(error)
    assert outages.recent_error(within_s=-1) is None


def test_a_lagging_replica_of_redis_is_not_reported_as_an_error_of_qdrant(outages: Outages) -> None:
    failed(outages, NotReplicated("only 0 of 1 replicas of Redis confirmed within 1 s"))
    assert outages.recent_error(within_s=60) is None


def test_a_request_in_doubt_delays_the_next_drain_until_it_has_settled(outages: Outages) -> None:
    error = StoreUnavailable("no answer", code="INTERNAL")
    assert failed(outages, error, in_doubt=True) == SETTLE_S
    assert failed(outages, error) <= 0.1
