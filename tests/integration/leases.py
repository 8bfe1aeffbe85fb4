"""Leases and commits as the tests need them: one at a time, and no reading on the way."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from memory_worker.queue.lease import Lease, LeaseState, release_lease
from memory_worker.queue.log import BatchCommit, DeadEntry, Entry, Head, JobLog, ReadOptions
from memory_worker.wire.keys import Keys


def reading(keys: Keys, process: str = "tests", *, max_job_bytes: int = 1_048_576) -> ReadOptions:
    """Return how a process reads that lives as long as a lease."""
    return ReadOptions(
        process=process, process_ttl_ms=8_000, max_job_bytes=max_job_bytes, process_prefix=keys.process_prefix
    )


async def acquire_lease(redis: Redis, keys: Keys, partition: int, *, ttl_s: float, partitions: int) -> Lease | None:
    """Take the lease of a partition; ``None`` when another drain holds it."""
    lease = Lease(partition, ttl_s)
    return None if await open_head(redis, keys, lease, partitions=partitions) is None else lease


async def open_head(
    redis: Redis, keys: Keys, lease: Lease, *, partitions: int, most: int = 0, process: str = "tests"
) -> Head | None:
    """Ask for a lease as a process does; return what was read, at most so many entries."""
    log = JobLog(redis, keys, reading(keys, process))
    (head,) = await log.open({lease: most}, partitions=partitions, max_jobs=max(1, most), max_bytes=2**30)
    return head


async def give_back(redis: Redis, keys: Keys, lease: Lease, *, settle_s: float = 0) -> None:
    """End the drain of a process that lives; ``settle_s``: a request of it may still be applied."""
    if settle_s:
        lease.state = LeaseState.IN_DOUBT
    await release_lease(redis, keys, lease, process="tests", settle_s=settle_s)


async def die(redis: Redis, keys: Keys, process: str) -> None:
    """Be the end of a process: it does not live any more, and has given nothing back."""
    await redis.delete(f"{keys.process_prefix}{process}")


async def commit(log: JobLog, lease: Lease, batch: Sequence[Entry], dead: Sequence[DeadEntry] = ()) -> int:
    """Remove ``batch``, of which ``dead`` are dead letters; return how many entries are left."""
    return await log.commit(BatchCommit(lease=lease, batch=batch, dead=dead))
