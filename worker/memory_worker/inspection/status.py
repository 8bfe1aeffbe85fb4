"""The status of the whole system: waiting jobs, drains, dead letters, workers, and collections."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, CollectionInfo
from memory_worker.contract.errors import QueueError, StoreError
from memory_worker.queue.processes import Process, living
from memory_worker.queue.state import PartitionState, partition_states, queue_totals
from memory_worker.store.store import VectorStore
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.overflow import home_of, is_overflow
from memory_worker.wire.pause import Pause, read_pause

ROLES = ("ingest", "search", "all")


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a partition. Times are in seconds.

    ``held``: its oldest entry needs another worker, one with what ``needs`` says. ``overflow_of`` is the partition of
    which this is the overflow stream.
    """

    partition: int
    waiting: int
    oldest_age_s: float | None
    draining: bool
    lease_s: float | None
    held: bool
    dead: int
    needs: str | None = None
    overflow_of: int | None = None


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of the queue ``at`` a time of Redis's clock, in unix seconds. A limit of 0 is no limit.

    ``waiting`` and ``waiting_bytes`` are about write jobs, ``reads_waiting`` counts read jobs. ``arq_writes_waiting``
    counts writes of arq's own client that are due and that no worker has taken over. Behind all ``partitions`` are the
    overflow streams that hold something. ``draining`` counts partitions of which at least one stream is being drained.
    While the queue is ``paused``, workers apply no writes.
    """

    at: float
    partitions: list[PartitionStatus]
    waiting: int
    waiting_bytes: int
    oldest_age_s: float
    draining: int
    dead: int
    reads_waiting: int
    max_jobs: int
    max_bytes: int
    redis_memory_bytes: int
    redis_memory_limit_bytes: int
    arq_writes_waiting: int = 0
    paused: Pause | None = None

    @property
    def partition_count(self) -> int:
        """The number of partitions."""
        return sum(state.overflow_of is None for state in self.partitions)


class Status(QueueStatus, frozen=True, kw_only=True):
    """The status of the system. ``workers`` counts the running processes by role.

    If the collections could not be described, ``store_error`` says why.
    """

    workers: dict[str, int] = {}
    collections: list[CollectionInfo]
    store_error: str | None


async def collect_status(redis: Redis, keys: Keys, store: VectorStore) -> Status:
    """Return the status of the system. Raises `QueueUnavailable`, but reports a failing store in the status."""
    queue = await collect_queue(redis, keys)
    workers = by_role(await living(redis, keys))
    collections, store_error = await collect_collections(store)
    return Status(**msgspec.structs.asdict(queue), workers=workers, collections=collections, store_error=store_error)


def by_role(processes: Iterable[Process]) -> dict[str, int]:
    """Return the number of running worker processes by role."""
    counts = dict.fromkeys(ROLES, 0)
    for process in processes:
        counts[process.role] = counts.get(process.role, 0) + 1
    return counts


async def collect_collections(store: VectorStore) -> tuple[list[CollectionInfo], str | None]:
    """Describe the collections; if that fails, return no collections and the error."""
    try:
        return await store.info(), None
    except (StoreError, QueueError) as error:
        return [], str(error)


async def collect_queue(redis: Redis, keys: Keys) -> QueueStatus:
    """Return the status of the queue. Raises `QueueUnavailable`."""
    meta = await read_meta(redis, keys) or QueueMeta()
    clock = RedisClock()
    await clock.refresh(redis)
    now_s = clock.now_ms() / 1000
    count = meta.partitions
    states = await partition_states(redis, keys, count)
    totals = await queue_totals(redis, keys, now_ms=now_s * 1000)
    partitions = [
        PartitionStatus(
            partition=state.partition,
            waiting=state.waiting,
            oldest_age_s=None if state.oldest_pushed_s is None else max(0.0, now_s - state.oldest_pushed_s),
            draining=state.lease_s is not None,
            lease_s=state.lease_s,
            held=_needs(state) is not None,
            dead=state.dead,
            needs=_needs(state),
            overflow_of=home_of(state.partition, count) if is_overflow(state.partition, count) else None,
        )
        for state in states
    ]
    return QueueStatus(
        at=now_s,
        partitions=partitions,
        waiting=sum(partition.waiting for partition in partitions),
        waiting_bytes=totals.waiting_bytes,
        oldest_age_s=max((partition.oldest_age_s or 0.0 for partition in partitions), default=0.0),
        draining=len({home_of(partition.partition, count) for partition in partitions if partition.draining}),
        dead=sum(partition.dead for partition in partitions),
        reads_waiting=totals.reads_waiting,
        arq_writes_waiting=totals.arq_writes_waiting,
        max_jobs=meta.max_jobs,
        max_bytes=meta.max_bytes,
        redis_memory_bytes=totals.memory_bytes,
        redis_memory_limit_bytes=totals.memory_limit_bytes,
        paused=await read_pause(redis, keys),
    )


def _needs(state: PartitionState) -> str | None:
    """Return what the oldest entry of a partition needs that a worker does not have. A drain finds unknown kinds."""
    version = state.version or 0
    return f"contract version {version}" if version > CONTRACT_VERSION else state.needs
