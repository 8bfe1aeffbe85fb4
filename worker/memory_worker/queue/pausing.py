"""Pause the queue and resume it. The state is in Redis, so it holds for all workers, and for those that start later.

While the queue is paused, workers apply no writes. Pushes and reads go on. A batch that was read before is applied and
committed. Its partition is leased until then, so once no lease is left, nothing more is written to Qdrant.
"""

from __future__ import annotations

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.queue.state import partition_states
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.pause import Pause, pause_of


async def pause_queue(redis: Redis, keys: Keys, *, by: str, reason: str = "") -> Pause:
    """Pause the queue, and return the pause. One that is in force stays, with the new reason if one is given.

    Batches in flight go on: see `leased_partitions`. Raises `QueueUnavailable`, and `NotReplicated` if too few replicas
    of Redis have the pause, so that a failover may lose it.
    """
    meta = await read_meta(redis, keys) or QueueMeta()
    with queue_request("pause"):
        found = await scripts.run_replicated(redis, "pause", [keys.paused], [by, reason], replicas=meta.min_replicas)
    return pause_of(found)


async def resume_queue(redis: Redis, keys: Keys) -> Pause | None:
    """End the pause, wake the workers, and return the pause that has ended; ``None`` if there was none.

    Raises `QueueUnavailable`.
    """
    with queue_request("resume"):
        found = await scripts.run(redis, "resume", [keys.paused, keys.drain_wakeup], [])
    return pause_of(found) if found else None


async def leased_partitions(redis: Redis, keys: Keys) -> list[int]:
    """Return the partitions that are leased. While the queue is paused, their number only falls."""
    meta = await read_meta(redis, keys) or QueueMeta()
    states = await partition_states(redis, keys, meta.partitions)
    return [state.partition for state in states if state.lease_s is not None]
