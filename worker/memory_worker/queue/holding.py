"""Hold the leases of a partition for work that is no drain, beside live workers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from memory_worker.queue.drain_jobs import rescue_partitions
from memory_worker.queue.lease import Lease, LeaseState, release_lease, renew_leases
from memory_worker.queue.log import JobLog, ReadOptions
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import streams_of

_ASK_AGAIN_S = 0.005
"""A busy partition is free only for a few milliseconds between two drains."""


class PartitionHolder:
    """Holds one partition at a time: the leases of both of its streams. Then nothing of its users is drained."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int, *, lease_ttl_s: float, settle_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = partitions
        self._lease_ttl_s = lease_ttl_s
        self._settle_s = settle_s
        self._process = secrets.token_hex(8)
        reads_nothing = ReadOptions(
            process=self._process,
            process_prefix=keys.process_prefix,
            process_ttl_ms=1,
            max_job_bytes=0,
            partitions=partitions,
        )
        self._log = JobLog(redis, keys, reads_nothing)

    @asynccontextmanager
    async def hold(self, partition: int) -> AsyncIterator[list[Lease]]:
        """Wait for the leases of ``partition``, and release them at the end. Then wake a worker if entries wait.

        A lease in doubt is kept for another ``settle_s`` seconds. Raises `LeaseLost`, `PartitionMismatch`,
        `QueueUnavailable`.
        """
        leases: list[Lease] = []
        try:
            for number in streams_of(partition, self._partitions):
                leases.append(Lease(number, self._lease_ttl_s))
                while not await self._take(leases[-1]):
                    await asyncio.sleep(_ASK_AGAIN_S)
                    await self._keep(leases[:-1])
                    leases[-1] = Lease(number, self._lease_ttl_s)
            yield leases
        finally:
            await asyncio.shield(self._release_all(leases))

    async def _keep(self, leases: Sequence[Lease]) -> None:
        """Renew leases of which half is over. Raises `LeaseLost`."""
        short = [lease for lease in leases if not lease.lasts(self._lease_ttl_s / 2)]
        await renew_leases(self._redis, self._keys, short)

    async def _take(self, lease: Lease) -> bool:
        (head,) = await self._log.open({lease: 0}, partitions=self._partitions, max_jobs=1, max_bytes=1)
        return head is not None

    async def _release_all(self, leases: Sequence[Lease]) -> None:
        held = [lease for lease in leases if lease.state is not LeaseState.ENDED]
        for lease in held:
            await release_lease(self._redis, self._keys, lease, process=self._process, settle_s=self._settle_s)
        if held:  # a drain that found the lease taken has ended without waking anybody
            await rescue_partitions(self._redis, self._keys, self._partitions)
