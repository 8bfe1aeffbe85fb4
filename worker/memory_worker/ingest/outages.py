"""Outages: what a process has seen of them, and for how long its drains are put off."""

from __future__ import annotations

import time
from collections import Counter

from memory_worker.contract.errors import NotReplicated, StoreUnavailable
from memory_worker.ingest import record
from memory_worker.ingest.breaker import Breaker
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.telemetry.metrics import breaker_is


class Outages:
    """The outages of one process. ``settle_s``: see `memory_worker.ingest.options.DrainOptions`."""

    def __init__(self, retry: RetryPolicy, *, settle_s: float) -> None:
        self._retry = retry
        self._settle_s = settle_s
        self._breaker = Breaker(retry)
        self._failures: Counter[int] = Counter()
        self._alone: dict[int, tuple[str, int, StoreUnavailable]] = {}
        self._seen: tuple[float, str] | None = None

    def wait_s(self) -> float:
        """Return for how many seconds a drain must be put off, as `Breaker.wait_s`."""
        return self._breaker.wait_s()

    @property
    def is_open(self) -> bool:
        """Whether Qdrant was away when a drain last asked."""
        return self._breaker.state != "closed"

    @property
    def is_asking(self) -> bool:
        """Whether a drain is to find out if Qdrant is back, and has not yet."""
        return self._breaker.state == "half-open"

    def failures(self, partition: int) -> int:
        """Return how often in a row batches of the partition have failed; if any did, nothing else is tried with it."""
        return self._failures.get(partition, 0)

    def trouble(self, *, within_s: float) -> str | None:
        """Return what Qdrant last failed a drain with, if that is no longer ago and nothing has been applied since."""
        return self._seen[1] if self._seen and time.monotonic() - self._seen[0] < within_s else None

    def applied(self) -> None:
        """Qdrant has applied something."""
        self._breaker.succeeded()
        self._seen = None

    def over(self, partition: int) -> None:
        """A batch of the partition is done with."""
        self._failures.pop(partition, None)
        self._alone.pop(partition, None)

    def failed_alone(self, partition: int, entry_id: str, error: StoreUnavailable) -> None:
        """Note that an entry failed alone, with Qdrant at work."""
        self._alone[partition] = (entry_id, self.failures_alone(partition, entry_id)[0] + 1, error)

    def failures_alone(self, partition: int, entry_id: str) -> tuple[int, StoreUnavailable | None]:
        """Return how often in a row an entry has failed alone, and with what."""
        before, times, error = self._alone.get(partition, ("", 0, None))
        return (times, error) if before == entry_id else (0, None)

    def failed(self, lease: Lease, error: Exception) -> float:
        """Note an outage; return after how many seconds to ring again."""
        partition = lease.partition
        self._failures[partition] += 1
        if not isinstance(error, NotReplicated):
            self._seen = (time.monotonic(), str(error))
        delay_s = self._breaker.failed(error)
        if delay_s is None:
            delay_s = self._retry.delay_s(self._failures[partition])
        if lease.state is LeaseState.IN_DOUBT:
            delay_s = max(delay_s, self._settle_s)
        record.outage(partition, error, failures=self._failures[partition], delay_s=delay_s)
        return delay_s

    def report(self) -> None:
        """Set the metric of the breaker's state."""
        breaker_is(self._breaker.state)
