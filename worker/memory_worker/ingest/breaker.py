"""The circuit breaker: while Qdrant is away, one drain of a process asks whether it is back, instead of all of them.

closed      Qdrant answers; drains go ahead
open        it failed; drains are put off until the delay of the retry policy is over
half-open   the delay is over; one drain goes ahead, and its end opens or closes the breaker
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from memory_worker.contract.errors import StoreUnavailable
from memory_worker.ingest.retry import RetryPolicy

BreakerState = Literal["closed", "open", "half-open"]

PROBE_WAIT_S = 0.5
"""How long others are put off while one drain asks."""

_OF_THE_WHOLE_SERVER = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)


class Breaker:
    """The breaker of one process; ``now`` is a monotonic clock in seconds."""

    def __init__(self, retry: RetryPolicy, *, now: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._now = now
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Whether drains go ahead."""
        if not self._failures:
            return "closed"
        return "half-open" if self._probing else "open"

    def wait_s(self) -> float:
        """Return for how many seconds a drain must be put off; 0 lets it go ahead, and others wait for its end."""
        if not self._failures:
            return 0.0
        left_s = self._open_until - self._now()
        if left_s > 0:
            return left_s
        self._probing = True
        self._open_until = self._now() + PROBE_WAIT_S
        return 0.0

    def succeeded(self) -> None:
        """Qdrant has applied something: close."""
        self._failures = 0
        self._probing = False

    def failed(self, error: Exception) -> float | None:
        """Open, if the error is one of the whole server; return for how many seconds, or ``None`` if it is not."""
        if not isinstance(error, StoreUnavailable) or error.of_one_job or error.code not in _OF_THE_WHOLE_SERVER:
            return None
        left_s = self._open_until - self._now()
        if self._failures and not self._probing and left_s > 0:
            return left_s  # of drains that failed together, the first counts
        self._failures += 1
        self._probing = False
        delay_s = self._retry.delay_s(self._failures, retry_after_s=error.retry_after_s)
        self._open_until = self._now() + delay_s
        return delay_s
