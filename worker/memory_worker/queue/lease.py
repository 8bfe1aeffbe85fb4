"""The lease: the right to drain one partition, for a time.

arq's own mark of a running job has no owner and may be lost or expire early, so it only wakes a worker. The lease is
the lock: a random token with a life, renewed by every read and commit, and checked inside every script that removes
entries. Nothing is sent to Qdrant after the lease has ended, and no request may take longer than it lasts.
"""

from __future__ import annotations

import enum
import secrets
import time
from dataclasses import dataclass, field

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class LeaseState(enum.Enum):
    """What is known of a lease.

    ASKED      asked for; until the answer is there it may be ours
    HELD       ours, and nothing that was sent under it is on its way
    IN_DOUBT   ours, but a request that was sent under it may still be applied: nothing behind it may be sent yet
    ENDED      not ours: another drain holds it, or it was given back
    """

    ASKED = enum.auto()
    HELD = enum.auto()
    IN_DOUBT = enum.auto()
    ENDED = enum.auto()


@dataclass(slots=True, eq=False)
class Lease:
    """A lease of a partition. ``until`` is the monotonic time, in seconds, up to which it is certain to be ours."""

    partition: int
    ttl_s: float
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    state: LeaseState = LeaseState.ASKED
    until: float = float("-inf")

    @property
    def ttl_ms(self) -> int:
        """The life of the lease in milliseconds, as scripts take it."""
        return int(self.ttl_s * 1000)

    def renewed(self, asked_at: float) -> None:
        """Note that Redis gave or renewed it when asked at this monotonic time."""
        self.until = asked_at + self.ttl_s
        if self.state is LeaseState.ASKED:
            self.state = LeaseState.HELD

    def lasts(self, seconds: float) -> bool:
        """Say whether it is certain to be ours for so many seconds from now."""
        return self.until - time.monotonic() >= seconds


async def renew_lease(redis: Redis, keys: Keys, lease: Lease, *, min_replicas: int = 0) -> None:
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
        )
    lease.renewed(started)


async def release_lease(redis: Redis, keys: Keys, lease: Lease, *, process: str, settle_s: float = 0) -> None:
    """Give the lease back, if it is still held; one in doubt stays taken for another ``settle_s`` seconds.

    ``process`` is the id of this process: the end of its drain shows that it is alive.
    """
    settle_ms = int(settle_s * 1000) if lease.state is LeaseState.IN_DOUBT else 0
    with queue_request("release"):
        await scripts.run(
            redis,
            "release",
            [keys.lease(lease.partition), keys.attempts(lease.partition)],
            [lease.token, settle_ms, process],
        )
    lease.state = LeaseState.ENDED
