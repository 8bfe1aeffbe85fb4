"""The lease: the right to drain one partition, for a time.

arq's own mark of a running job has no owner and may be lost or expire early, so it is only a doorbell. The lease is
the lock: a random token with a life, renewed by every read and commit, and checked inside every script that removes
entries. Nothing is sent to Qdrant with a deadline beyond what is left of it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from arq.connections import ArqRedis

from memory_worker.queue import scripts
from memory_worker.queue.connection import queue_request
from memory_worker.queue.keys import Keys
from memory_worker.queue.scripts import REPLICATION_TIMEOUT_S


@dataclass(slots=True, eq=False)
class Lease:
    """A lease that is held, or asked for. ``renewed_at`` is the local monotonic time before it was last renewed.

    ``has_claims`` says that dead letters of the partition must be held against its jobs: only its drains add any.
    ``is_suspect`` says that its next batch may kill the process: nothing else may be tried beside it. ``was_orphaned``
    says that the drain before this one never ended. ``in_doubt`` says that a request may still be applied of which
    nobody knows how it ended: until it is settled, nothing that comes behind it may be sent. ``is_over`` says that it
    was not given, or was given back with the last entry.
    """

    partition: int
    ttl_s: float
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    renewed_at: float = field(default_factory=time.monotonic)
    has_claims: bool = False
    is_suspect: bool = False
    was_orphaned: bool = False
    in_doubt: bool = False
    is_over: bool = False

    @property
    def ttl_ms(self) -> int:
        """The life of the lease in milliseconds, as scripts take it."""
        return int(self.ttl_s * 1000)

    def remaining_s(self) -> float:
        """Return for how many seconds the lease is certain to be held, counted from before it was last renewed."""
        return self.renewed_at + self.ttl_s - time.monotonic()


async def renew_lease(redis: ArqRedis, keys: Keys, lease: Lease, *, min_replicas: int = 0) -> None:
    """Begin the life of the lease anew; raises `LeaseLost` when it is no longer held.

    With ``min_replicas``, return only once as many replicas of Redis know of it; raises `NotReplicated`.
    """
    started = time.monotonic()
    with queue_request("renew"):
        await scripts.run_replicated(
            redis,
            "renew",
            [keys.lease(lease.partition)],
            [lease.token, lease.ttl_ms],
            replicas=min_replicas,
            timeout_s=REPLICATION_TIMEOUT_S,
        )
    lease.renewed_at = started


async def release_lease(redis: ArqRedis, keys: Keys, lease: Lease, *, settle_s: float = 0) -> None:
    """Give the lease back, if it is still held; at once, or so that nobody has it for another ``settle_s`` seconds."""
    with queue_request("release"):
        await scripts.run(
            redis,
            "release",
            [keys.lease(lease.partition), keys.attempts(lease.partition)],
            [lease.token, int(settle_s * 1000)],
        )
