"""The state of the whole system, for the operator: what waits, who drains, what died, what is stored."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, CollectionInfo
from memory_worker.contract.errors import QueueError, StoreError
from memory_worker.queue.processes import Process, living
from memory_worker.queue.state import partition_states, queue_totals
from memory_worker.store.store import VectorStore
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta

ROLES = ("ingest", "search", "all")


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A partition; ages and lives in seconds. ``held``: its oldest entry needs a newer worker than this one."""

    partition: int
    waiting: int
    oldest_age_s: float | None
    draining: bool
    lease_s: float | None
    held: bool
    dead: int


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole queue ``at`` a time of Redis's (unix seconds); limits of 0 are none.

    ``waiting`` and ``waiting_bytes`` are write jobs, ``reads_waiting`` read jobs; memory is Redis's, in bytes.
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


class Status(QueueStatus, frozen=True, kw_only=True):
    """The whole system; ``store_error`` says why nothing is known of the collections.

    ``workers`` counts the processes that live, by role.
    """

    workers: dict[str, int] = {}
    collections: list[CollectionInfo]
    store_error: str | None


async def collect_status(redis: Redis, keys: Keys, store: VectorStore) -> Status:
    """Return the state of the system; raises `QueueUnavailable`, but reports a failing store as part of it."""
    queue = await collect_queue(redis, keys)
    workers = by_role(await living(redis, keys))
    collections, store_error = await collect_collections(store)
    return Status(**msgspec.structs.asdict(queue), workers=workers, collections=collections, store_error=store_error)


def by_role(processes: Iterable[Process]) -> dict[str, int]:
    """Return how many worker processes live, by role."""
    counts = dict.fromkeys(ROLES, 0)
    for process in processes:
        counts[process.role] = counts.get(process.role, 0) + 1
    return counts


async def collect_collections(store: VectorStore) -> tuple[list[CollectionInfo], str | None]:
    """Return what is stored, and why nothing is known of it where that is so."""
    try:
        return await store.info(), None
    except (StoreError, QueueError) as error:
        return [], str(error)


async def collect_queue(redis: Redis, keys: Keys) -> QueueStatus:
    """Return the state of the queue; raises `QueueUnavailable`."""
    meta = await read_meta(redis, keys) or QueueMeta()
    clock = RedisClock()
    await clock.refresh(redis)
    now_s = clock.now_ms() / 1000
    states = await partition_states(redis, keys, meta.partitions)
    totals = await queue_totals(redis, keys)
    partitions = [
        PartitionStatus(
            partition=state.partition,
            waiting=state.waiting,
            oldest_age_s=None if state.oldest_pushed_s is None else max(0.0, now_s - state.oldest_pushed_s),
            draining=state.lease_s is not None,
            lease_s=state.lease_s,
            held=(state.version or 0) > CONTRACT_VERSION,
            dead=state.dead,
        )
        for state in states
    ]
    return QueueStatus(
        at=now_s,
        partitions=partitions,
        waiting=sum(partition.waiting for partition in partitions),
        waiting_bytes=totals.waiting_bytes,
        oldest_age_s=max((partition.oldest_age_s or 0.0 for partition in partitions), default=0.0),
        draining=sum(partition.draining for partition in partitions),
        dead=sum(partition.dead for partition in partitions),
        reads_waiting=totals.reads_waiting,
        max_jobs=meta.max_jobs,
        max_bytes=meta.max_bytes,
        redis_memory_bytes=totals.memory_bytes,
        redis_memory_limit_bytes=totals.memory_limit_bytes,
    )
