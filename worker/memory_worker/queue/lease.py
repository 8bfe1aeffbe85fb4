"""The lease is the exclusive right to drain a partition for a limited time.

arq's key for a job in progress has no owner, and may be lost or expire early. So an arq job only wakes a worker, and
the lease is the lock. It is a random token that expires. Every read and commit renews it, and every script that removes
entries checks it. Nothing is sent to Qdrant after the lease has ended, and no request may take longer than the lease
lasts.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class LeaseState(enum.Enum):
    """The state of a lease, as this process knows it.

    ASKED      requested; until the reply arrives, this process may hold it or not
    HELD       held by this process, and no request that was sent under it is in doubt
    IN_DOUBT   held by this process, but a request that was sent under it may still be applied, so no other may follow
    ENDED      not held by this process: another drain holds it, or it was released
    """

    ASKED = enum.auto()
    HELD = enum.auto()
    IN_DOUBT = enum.auto()
    ENDED = enum.auto()


def new_token() -> str:
    """Return a token that nobody else has. Leases that are requested together may share one."""
    return secrets.token_hex(16)


@dataclass(slots=True, eq=False)
class Lease:
    """A lease on a partition. Until the monotonic time ``until``, this process certainly holds it."""

    partition: int
    ttl_s: float
    token: str = field(default_factory=new_token, repr=False)
    state: LeaseState = LeaseState.ASKED
    until: float = float("-inf")

    @property
    def ttl_ms(self) -> int:
        """The life of the lease in milliseconds."""
        return int(self.ttl_s * 1000)

    def renewed(self, asked_at: float) -> None:
        """Record that Redis gave or renewed the lease, after a request at this monotonic time."""
        self.until = asked_at + self.ttl_s
        if self.state is LeaseState.ASKED:
            self.state = LeaseState.HELD

    def lasts(self, seconds: float) -> bool:
        """Return whether this process certainly holds the lease for so many seconds from now."""
        return self.until - time.monotonic() >= seconds


def set_states(leases: Sequence[Lease], state: LeaseState) -> None:
    """Set the state of several leases."""
    for lease in leases:
        lease.state = state


async def renew_leases(redis: Redis, keys: Keys, leases: Sequence[Lease], *, min_replicas: int = 0) -> None:
    """Renew leases of the same length for their full life, all or none. Raises `LeaseLost` if one is no longer held.

    With ``min_replicas``, wait until so many replicas of Redis have the renewed leases. Raises `NotReplicated`.
    """
    if not leases:
        return
    started = time.monotonic()
    with queue_request("renew"):
        await scripts.run_replicated(
            redis,
            "renew",
            [keys.lease(lease.partition) for lease in leases],
            [leases[0].ttl_ms, *(lease.token for lease in leases)],
            replicas=min_replicas,
        )
    for lease in leases:
        lease.renewed(started)


async def release_lease(redis: Redis, keys: Keys, lease: Lease, *, process: str, settle_s: float = 0) -> None:
    """Release the lease, if it is still held. A lease in doubt is kept for another ``settle_s`` seconds.

    This also removes the recorded attempt of ``process`` (the id of this process), because it has survived its drain.
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
