"""The number of partitions: fix it at first use, publish it with the limits of producers, change it."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import PartitionMismatch
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import BOUNDS, QueueMeta, read_meta


async def publish_meta(redis: Redis, keys: Keys, meta: QueueMeta, *, only_missing: bool = False) -> int:
    """Fix the number of partitions, or check it, and publish the limits; return how many.

    ``only_missing``: those that are there are left alone, another worker may have published them.
    Raises `PartitionMismatch` when another number is fixed already: jobs of one user would lose their order.
    """
    limits = {**msgspec.structs.asdict(meta.limits), **{name: getattr(meta, name) for name in BOUNDS}}
    pairs = [part for name, value in limits.items() for part in (name, value or 0)]
    args = [meta.partitions, int(only_missing), *pairs]
    try:
        with queue_request("publish"):
            published = await scripts.run(redis, "publish", [keys.meta, keys.since], args)
    except PartitionMismatch as error:
        raise PartitionMismatch(meta.partitions, error.actual) from error
    return int(published)


async def repartition(redis: Redis, keys: Keys, partitions: int) -> int:
    """Give an empty queue another number of partitions; return the number it had.

    Raises `QueueNotEmpty` while jobs wait, drains hold leases or dead letters are left. Workers that still run end with
    `PartitionMismatch`, and a producer finds the new number when its next push is refused.
    """
    meta = await read_meta(redis, keys)
    if meta is None:
        await publish_meta(redis, keys, QueueMeta(partitions=partitions))
        return partitions
    script_keys = [keys.meta]
    for partition in range(meta.partitions):
        script_keys += [keys.stream(partition), keys.lease(partition), keys.dead(partition)]
    with queue_request("repartition"):
        await scripts.run(redis, "repartition", script_keys, [meta.partitions, partitions])
    return meta.partitions
