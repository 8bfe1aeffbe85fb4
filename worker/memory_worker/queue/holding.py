"""Hold the lease of a partition for work that is no drain, beside live workers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from memory_worker.queue.drain_jobs import rescue_partitions
from memory_worker.queue.lease import Lease, LeaseState, release_lease
from memory_worker.queue.log import JobLog, ReadOptions
from memory_worker.wire.keys import Keys

_ASK_AGAIN_S = 0.005
"""A busy partition is free only for a few milliseconds between two drains."""


class PartitionHolder:
    """Takes the leases of partitions, one at a time. While one is held, nothing of its users is drained."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int, *, lease_ttl_s: float, settle_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = partitions
        self._lease_ttl_s = lease_ttl_s
        self._settle_s = settle_s
        self._process = secrets.token_hex(8)
        reads_nothing = ReadOptions(
            process=self._process, process_prefix=keys.process_prefix, process_ttl_ms=1, max_job_bytes=0
        )
        self._log = JobLog(redis, keys, reads_nothing)

    @asynccontextmanager
    async def hold(self, partition: int) -> AsyncIterator[Lease]:
        """Wait for the lease of ``partition``, and release it at the end. Then wake a worker if entries wait.

        A lease in doubt is kept for another ``settle_s`` seconds. Raises `PartitionMismatch`, `QueueUnavailable`.
        """
        lease = Lease(partition, self._lease_ttl_s)
        try:
            while not await self._take(lease):
                await asyncio.sleep(_ASK_AGAIN_S)
                lease = Lease(partition, self._lease_ttl_s)
            yield lease
        finally:
            await asyncio.shield(self._release(lease))

    async def _take(self, lease: Lease) -> bool:
        (head,) = await self._log.open({lease: 0}, partitions=self._partitions, max_jobs=1, max_bytes=1)
        return head is not None

    async def _release(self, lease: Lease) -> None:
        if lease.state is LeaseState.ENDED:
            return
        await release_lease(self._redis, self._keys, lease, process=self._process, settle_s=self._settle_s)
        # A drain that found the lease taken has ended without waking anybody.
        await rescue_partitions(self._redis, self._keys, self._partitions)
