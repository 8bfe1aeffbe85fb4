"""The options of drains."""

from __future__ import annotations

import msgspec

from memory_worker.contract import Limits
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.outcomes import OUTCOMES_MAX


class DrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of drains. Times are in seconds, sizes in jobs and bytes.

    A drain ends after ``slice_s``, and that of an overflow stream after ``overflow_slice_s``, so that others go first.
    ``settle_s`` is the pause of a partition after a request with an unknown outcome. The engine may still be applying
    that request, and must not finish it after later requests. About ``outcomes_max`` outcomes are kept; 0: none. While
    reads are answered, at most ``read_priority_requests`` batches of a process are on their way to Qdrant; 0: no limit.
    """

    partitions: int
    limits: Limits
    batch_max_jobs: int = 256
    batch_max_bytes: int = 4_194_304
    slice_s: float = 2.0
    overflow_slice_s: float = 0.25
    lease_ttl_s: float = 8.0
    request_timeout_s: float = 5.0
    margin_s: float = 1.0
    settle_s: float = 1.0
    min_replicas: int = 0
    outcomes_max: int = OUTCOMES_MAX
    read_priority_requests: int = 0
    retry: RetryPolicy = RetryPolicy()
