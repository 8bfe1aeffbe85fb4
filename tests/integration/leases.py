"""Leases and commits as the tests need them: one at a time, and no reading on the way."""

from __future__ import annotations

from collections.abc import Sequence

from arq.connections import ArqRedis

from memory_worker.queue.keys import Keys
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import DeadEntry, Done, Entry, JobLog


async def acquire_lease(redis: ArqRedis, keys: Keys, partition: int, *, ttl_s: float, partitions: int) -> Lease | None:
    """Take the lease of a partition; ``None`` when another drain holds it."""
    lease = Lease(partition, ttl_s)
    (head,) = await JobLog(redis, keys).open({lease: 0}, partitions=partitions, max_jobs=1, max_bytes=1)
    return None if head is None else lease


async def commit(log: JobLog, lease: Lease, batch: Sequence[Entry], dead: Sequence[DeadEntry] = ()) -> int:
    """Remove ``batch``, of which ``dead`` are dead letters; return how many entries are left."""
    return await log.commit(Done(lease=lease, batch=batch, dead=dead))
