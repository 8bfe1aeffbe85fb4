"""The options of drains."""

from __future__ import annotations

import msgspec

from memory_worker.contract import Limits
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.outcomes import OUTCOMES_MAX


class DrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of drains. Times are in seconds, sizes in jobs and bytes.

    ``settle_s`` is the pause of a partition after a request with an unknown outcome. The engine may still be applying
    that request, and must not finish it after later requests. About ``outcomes_max`` outcomes are kept; 0: none.
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
    outcomes_max: int = OUTCOMES_MAX
    retry: RetryPolicy = RetryPolicy()
