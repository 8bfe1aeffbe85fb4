"""Read the state of all partitions, and totals of the queue, in one round trip each."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.queue.held import needs_of
from memory_worker.queue.log import parse_version, pushed_at_s
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions, is_overflow


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a partition, or of an overflow stream. This has a number from the number of partitions on.

    ``waiting`` is the number of entries. ``oldest_pushed_s`` (unix seconds) and ``version`` (of the contract) are those
    of the oldest entry. ``needs`` is what that entry needs, if a worker could not apply it. ``lease_s`` is how many
    seconds its lease still lasts. ``dead`` is the number of dead letters.
    """

    partition: int
    waiting: int
    oldest_pushed_s: float | None
    version: int | None
    needs: str | None = None
    lease_s: float | None
    dead: int


class QueueTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of the whole queue, and the memory of Redis in bytes. A memory limit of 0 means no limit."""

    waiting_bytes: int
    reads_waiting: int
    arq_writes_waiting: int
    memory_bytes: int
    memory_limit_bytes: int


async def queue_totals(redis: Redis, keys: Keys, *, now_ms: float) -> QueueTotals:
    """Return the totals of the queue ``now_ms`` by Redis's clock. Raises `QueueUnavailable`."""
    with queue_request("totals"):
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hget(keys.backlog, "bytes")
            pipe.zcard(keys.search_queue)
            pipe.llen(keys.search_calls)
            pipe.zcount(keys.writes_queue, "-inf", now_ms)
            pipe.info("memory")
            waiting_bytes, queued, calls, arq_writes, memory = await pipe.execute()
    return QueueTotals(
        waiting_bytes=max(0, int(waiting_bytes or 0)),
        reads_waiting=queued + calls,
        arq_writes_waiting=arq_writes,
        memory_bytes=memory["used_memory"],
        memory_limit_bytes=memory["maxmemory"],
    )


async def partition_states(redis: Redis, keys: Keys, partitions: int) -> list[PartitionState]:
    """Return the state of every partition, then of the overflow streams that hold something.

    Raises `QueueUnavailable`.
    """
    script_keys = [keys.held]
    for partition in all_partitions(partitions):
        script_keys += [keys.stream(partition), keys.lease(partition), keys.dead(partition)]
    with queue_request("state"):
        found = await scripts.run(redis, "state", script_keys, [])
    return [
        PartitionState(
            partition=partition,
            waiting=waiting,
            oldest_pushed_s=pushed_at_s(first_id.decode()) if waiting else None,
            version=parse_version(version) if waiting else None,
            needs=needs_of(record, first_id.decode()) if waiting else None,
            lease_s=lease_ms / 1000 if lease_ms > 0 else None,
            dead=dead,
        )
        for partition, (waiting, first_id, version, lease_ms, dead, record) in enumerate(found)
        if not is_overflow(partition, partitions) or waiting or lease_ms > 0 or dead
    ]
