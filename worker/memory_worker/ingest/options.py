"""How drains behave."""

from __future__ import annotations

import msgspec

from memory_worker.contract import Limits
from memory_worker.ingest.retry import RetryPolicy


class DrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain behaves. Times in seconds, sizes in jobs and bytes.

    ``settle_s`` is how long nothing is sent for a partition after a request of which nobody knows how it ended: an
    engine that is still at work on it must not finish it after what came behind.
    """

    partitions: int
    limits: Limits
    batch_max_jobs: int = 256
    batch_max_bytes: int = 4_194_304
    slice_s: float = 2.0
    lease_ttl_s: float = 8.0
    request_timeout_s: float = 5.0
    margin_s: float = 1.0
    settle_s: float = 1.0
    min_replicas: int = 0
    retry: RetryPolicy = RetryPolicy()
