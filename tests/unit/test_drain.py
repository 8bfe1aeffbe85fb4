"""What a drainer says of its troubles; all that it does is shown by tests/integration/test_drain.py."""

from __future__ import annotations

from typing import Any, cast

import pytest

from worker.contract import Limits
from worker.errors import NotReplicated, StoreRefused, StoreUnavailable
from worker.ingest.drain import Drainer, DrainOptions
from worker.ingest.retry import RetryPolicy
from worker.queue.keys import Keys
from worker.queue.lease import Lease

OPTIONS = DrainOptions(partitions=1, limits=Limits(), settle_s=3.0, retry=RetryPolicy(base_s=0.1, max_s=0.1))


@pytest.fixture
def drainer() -> Drainer:
    nothing = cast("Any", None)
    return Drainer(nothing, Keys(), nothing, OPTIONS)


def outage(drainer: Drainer, error: Exception, *, in_doubt: bool = False) -> float | None:
    """Let a drain fail; return after how many seconds it wants to be rung again."""
    return drainer._outage(Lease(0, 8, in_doubt=in_doubt), error).ring_after_s


def test_none_yet(drainer: Drainer) -> None:
    assert drainer.trouble(within_s=60) is None


@pytest.mark.parametrize("error", [StoreUnavailable("away", code="UNAVAILABLE"), StoreRefused("refused")])
def test_what_qdrant_said_last(drainer: Drainer, error: Exception) -> None:
    outage(drainer, StoreUnavailable("before", code="INTERNAL"))
    outage(drainer, error)
    assert drainer.trouble(within_s=60) == str(error)
    assert drainer.trouble(within_s=-1) is None


def test_that_replicas_of_redis_lag_is_no_trouble_with_qdrant(drainer: Drainer) -> None:
    outage(drainer, NotReplicated("only 0 of 1 replicas of Redis confirmed within 1 s"))
    assert drainer.trouble(within_s=60) is None


def test_what_may_still_be_applied_is_waited_out(drainer: Drainer) -> None:
    error = StoreUnavailable("no answer", code="INTERNAL")
    assert outage(drainer, error, in_doubt=True) == OPTIONS.settle_s
    after_s = outage(drainer, error)
    assert after_s is not None
    assert after_s <= 0.1
