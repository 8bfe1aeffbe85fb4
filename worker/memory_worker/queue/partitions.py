"""Publish the number of partitions and the limits of producers, and change the number of partitions."""

from __future__ import annotations

from redis.asyncio import Redis

from memory_worker.contract.errors import PartitionMismatch
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QUEUE_LIMITS, QueueMeta, published_limits, read_meta
from memory_worker.wire.overflow import all_partitions, home_of


async def publish_meta(redis: Redis, keys: Keys, meta: QueueMeta, *, only_missing: bool = False) -> int:
    """Publish the number of partitions and the limits. Return how many limits were written.

    The number of partitions is fixed at first use. Raises `PartitionMismatch` if it is fixed at another number, because
    the jobs of a user would then lose their order. With ``only_missing``, limits that are already published stay as
    they are, because another worker may have published them.
    """
    limits = {**published_limits(meta.limits), **{name: getattr(meta, name) for name in QUEUE_LIMITS}}
    pairs = [item for name, value in limits.items() for item in (name, value or 0)]
    args = [meta.partitions, int(only_missing), *pairs]
    try:
        with queue_request("publish"):
            published = await scripts.run(redis, "publish", [keys.meta, keys.since], args)
    except PartitionMismatch as error:
        raise PartitionMismatch(meta.partitions, error.actual) from error
    return int(published)


async def repartition(redis: Redis, keys: Keys, partitions: int) -> int:
    """Change the number of partitions of an empty queue. Return the old number.

    Raises `QueueNotEmpty` if jobs wait, drains hold leases or there are dead letters. Workers that are running will end
    with `PartitionMismatch`. Producers learn the new number when their next push is refused.
    """
    meta = await read_meta(redis, keys)
    if meta is None:
        await publish_meta(redis, keys, QueueMeta(partitions=partitions))
        return partitions
    script_keys = [keys.meta]
    for number in all_partitions(meta.partitions):
        script_keys += [keys.stream(number), keys.lease(number), keys.dead(number)]
        script_keys.append(keys.overflow_users(home_of(number, meta.partitions)))
    with queue_request("repartition"):
        await scripts.run(redis, "repartition", script_keys, [meta.partitions, partitions])
    return meta.partitions
