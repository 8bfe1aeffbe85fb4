"""Leases, reads and commits of a drain, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from memory_worker.queue.lease import Lease, LeaseState, release_lease
from memory_worker.queue.log import BatchCommit, DeadEntry, Entry, Head, JobLog, ReadOptions
from memory_worker.wire.keys import Keys
from tests.integration.jobs import PARTITIONS


def reading(
    keys: Keys, process: str = "tests", *, max_job_bytes: int = 1_048_576, partitions: int = PARTITIONS
) -> ReadOptions:
    """Return how a process reads. Its sign of life lasts as long as a lease."""
    return ReadOptions(
        process=process,
        process_ttl_ms=8_000,
        max_job_bytes=max_job_bytes,
        process_prefix=keys.process_prefix,
        partitions=partitions,
    )


async def acquire_lease(redis: Redis, keys: Keys, partition: int, *, ttl_s: float, partitions: int) -> Lease | None:
    """Acquire the lease of a partition; return ``None`` if another drain holds it."""
    lease = Lease(partition, ttl_s)
    return None if await open_head(redis, keys, lease, partitions=partitions) is None else lease


async def held_lease(
    redis: Redis, keys: Keys, partition: int = 0, *, ttl_s: float = 8, partitions: int = PARTITIONS
) -> Lease:
    """Acquire the lease of a partition that no other drain holds."""
    lease = await acquire_lease(redis, keys, partition, ttl_s=ttl_s, partitions=partitions)
    assert lease is not None
    return lease


async def open_head(
    redis: Redis, keys: Keys, lease: Lease, *, partitions: int, most: int = 0, process: str = "tests"
) -> Head | None:
    """Ask for a lease as a process does; return what was read, at most ``most`` entries."""
    log = JobLog(redis, keys, reading(keys, process, partitions=partitions))
    (head,) = await log.open({lease: most}, partitions=partitions, max_jobs=max(1, most), max_bytes=2**30)
    return head


async def give_back(redis: Redis, keys: Keys, lease: Lease, *, settle_s: float = 0) -> None:
    """End the drain of a living process. ``settle_s`` means that one of its requests may still be applied."""
    if settle_s:
        lease.state = LeaseState.IN_DOUBT
    await release_lease(redis, keys, lease, process="tests", settle_s=settle_s)


async def waiting(redis: Redis, keys: Keys, partition: int = 0) -> list[str]:
    """Return the ids of the entries that wait in a partition."""
    return [entry_id.decode() for entry_id, _ in await redis.xrange(keys.stream(partition))]


async def die(redis: Redis, keys: Keys, process: str) -> None:
    """Let a process die: it gives no lease back."""
    await redis.delete(f"{keys.process_prefix}{process}")


async def commit(log: JobLog, lease: Lease, batch: Sequence[Entry], dead: Sequence[DeadEntry] = ()) -> int:
    """Remove ``batch``, of which ``dead`` are dead letters; return how many entries are left."""
    return await log.commit(BatchCommit(lease=lease, batch=batch, dead=dead))


async def drain_all(redis: Redis, keys: Keys, partition: int = 0) -> None:
    """Remove all entries of a partition, as a drain does after it has applied them."""
    lease = await held_lease(redis, keys, partition)
    log = JobLog(redis, keys, reading(keys))
    await commit(log, lease, (await log.read(lease, max_jobs=1000, max_bytes=2**30)).entries)
    await give_back(redis, keys, lease)
