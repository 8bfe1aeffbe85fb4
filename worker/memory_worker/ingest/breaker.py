"""The circuit breaker to Qdrant. While Qdrant is away, only one drain of a process tests whether it is back.

closed      Qdrant answers. All drains run.
open        Qdrant failed. Drains wait until the delay of the retry policy has passed.
half-open   The delay has passed. One drain runs as the probe, and its result opens or closes the breaker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from memory_worker.contract.errors import StoreUnavailable
from memory_worker.ingest.retry import RetryPolicy

BreakerState = Literal["closed", "open", "half-open"]

PROBE_WAIT_S = 0.5
"""How long the other drains wait while one drain probes."""

_SERVER_CODES = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)
"""Codes that concern the whole server, not one collection."""


class Breaker:
    """The breaker of one process. ``now`` is a monotonic clock in seconds."""

    def __init__(self, retry: RetryPolicy, *, now: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._now = now
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """The state; see the module."""
        if not self._failures:
            return "closed"
        return "half-open" if self._probing else "open"

    def wait_s(self) -> float:
        """Return how many seconds a drain must wait. At 0 it may run; unless the breaker is closed, it is the probe."""
        if not self._failures:
            return 0.0
        left_s = self._open_until - self._now()
        if left_s > 0:
            return left_s
        self._probing = True
        self._open_until = self._now() + PROBE_WAIT_S
        return 0.0

    def succeeded(self) -> None:
        """Close the breaker, because Qdrant has applied something."""
        self._failures = 0
        self._probing = False

    def failed(self, error: Exception) -> float | None:
        """Open the breaker if ``error`` concerns the whole server.

        Return for how many seconds it is open, or ``None`` for any other error.
        """
        if not isinstance(error, StoreUnavailable) or error.of_one_job or error.code not in _SERVER_CODES:
            return None
        left_s = self._open_until - self._now()
        if self._failures and not self._probing and left_s > 0:
            return left_s  # drains that fail together count as one failure
        self._failures += 1
        self._probing = False
        delay_s = self._retry.delay_s(self._failures, retry_after_s=error.retry_after_s)
        self._open_until = self._now() + delay_s
        return delay_s
