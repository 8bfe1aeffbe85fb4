"""Outages: the failures that this process has seen, and the delays that follow from them."""

from __future__ import annotations

import time
from collections import Counter

from memory_worker.contract.errors import NotReplicated, StoreUnavailable
from memory_worker.ingest import record
from memory_worker.ingest.breaker import Breaker
from memory_worker.ingest.outage_log import OutageLog
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.telemetry.metrics import breaker_is


class Outages:
    """The outages of one process. For ``settle_s`` see `memory_worker.ingest.options.DrainOptions`."""

    def __init__(self, retry: RetryPolicy, *, settle_s: float) -> None:
        self._retry = retry
        self._settle_s = settle_s
        self._breaker = Breaker(retry)
        self._log = OutageLog()
        self._failures: Counter[int] = Counter()
        self._single_failures: dict[int, tuple[str, int, StoreUnavailable]] = {}
        self._last_error: tuple[float, str] | None = None

    def wait_s(self) -> float:
        """Return how many seconds a drain must wait, as `Breaker.wait_s`."""
        return self._breaker.wait_s()

    @property
    def is_open(self) -> bool:
        """Whether Qdrant was away at the last request."""
        return self._breaker.state != "closed"

    @property
    def is_probing(self) -> bool:
        """Whether a drain is testing if Qdrant is back, and has no result yet."""
        return self._breaker.state == "half-open"

    @property
    def has_failures(self) -> bool:
        """Whether Qdrant was away at the last request, or the last batch of any partition has failed."""
        return self.is_open or bool(self._failures)

    def failures(self, partition: int) -> int:
        """Return how many batches of the partition have failed in a row. After a failure it is drained by itself."""
        return self._failures.get(partition, 0)

    def recent_error(self, *, within_s: float) -> str | None:
        """Return the last error of Qdrant, unless it is older than ``within_s`` or something was applied since."""
        if self._last_error is None or time.monotonic() - self._last_error[0] >= within_s:
            return None
        return self._last_error[1]

    def record_success(self) -> None:
        """Record that Qdrant has applied something."""
        self._breaker.succeeded()
        self._last_error = None

    def clear(self, partition: int) -> None:
        """Forget the failures of a partition, because a batch of it was applied."""
        self._failures.pop(partition, None)
        self._single_failures.pop(partition, None)

    def record_single_failure(self, partition: int, entry_id: str, error: StoreUnavailable) -> None:
        """Record that the only entry of a batch failed while Qdrant accepted other writes."""
        times, _ = self.single_failures(partition, entry_id)
        self._single_failures[partition] = (entry_id, times + 1, error)

    def single_failures(self, partition: int, entry_id: str) -> tuple[int, StoreUnavailable | None]:
        """Return how often in a row an entry failed as the only one of its batch, and its last error."""
        recorded_id, times, error = self._single_failures.get(partition, ("", 0, None))
        return (times, error) if recorded_id == entry_id else (0, None)

    def record_outage(self, lease: Lease, error: Exception) -> float:
        """Record an outage. Return after how many seconds the partition must be drained again."""
        partition = lease.partition
        self._failures[partition] += 1
        if not isinstance(error, NotReplicated):
            self._last_error = (time.monotonic(), str(error))
        delay_s = self._breaker.failed(error)
        if delay_s is None:
            delay_s = self._retry.delay_s(self._failures[partition])
        if lease.state is LeaseState.IN_DOUBT:
            delay_s = max(delay_s, self._settle_s)
        reason = record.batch_failed(partition, error, failures=self._failures[partition], delay_s=delay_s)
        self._log.failed(partition, reason, error, delay_s=delay_s)
        return delay_s

    def report(self) -> None:
        """Set the metric of the breaker's state, and report an outage that has ended."""
        breaker_is(self._breaker.state)
        if not self.has_failures:
            self._log.ended()
