"""What the queue says of itself in Redis: the number of partitions, and the limits that producers must keep."""

from __future__ import annotations

import msgspec
from arq.connections import ArqRedis

from memory_worker.contract import Limits
from memory_worker.errors import PartitionMismatch
from memory_worker.queue import scripts
from memory_worker.queue.connection import queue_request
from memory_worker.queue.keys import Keys

DEFAULT_PARTITIONS = 32
_BOUNDS = ("max_jobs", "max_bytes", "max_reads", "min_replicas")
_KNOWN = ("partitions", "dimension", "max_job_bytes", *_BOUNDS)


class QueueMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What producers must keep to; all but ``partitions``, which is fixed at first use, follows the workers' settings.

    ``max_jobs`` and ``max_bytes`` bound the whole backlog, ``max_reads`` the read jobs that wait; 0 is no bound.
    ``min_replicas`` replicas of Redis must have a job before its push returns.
    """

    partitions: int = DEFAULT_PARTITIONS
    limits: Limits = Limits()
    max_jobs: int = 0
    max_bytes: int = 0
    max_reads: int = 0
    min_replicas: int = 0


async def read_meta(redis: ArqRedis, keys: Keys) -> QueueMeta | None:
    """Return what a worker has published, or ``None`` where none has yet."""
    with queue_request("meta"):
        found = await redis.execute_command("HGETALL", keys.meta)  # type: ignore[no-untyped-call]
    if b"partitions" not in found:
        return None
    # Only what is known: another version of the worker may publish more, and in another form.
    numbers = {name: int(found[name.encode()]) for name in _KNOWN if found.get(name.encode(), b"").isdigit()}
    if "partitions" not in numbers:
        return None
    defaults = Limits()
    return QueueMeta(
        partitions=numbers["partitions"],
        limits=Limits(
            dimension=numbers.get("dimension"),
            max_job_bytes=numbers.get("max_job_bytes", defaults.max_job_bytes),
        ),
        **{name: numbers.get(name, 0) for name in _BOUNDS},
    )


async def publish_meta(redis: ArqRedis, keys: Keys, meta: QueueMeta, *, only_missing: bool = False) -> int:
    """Fix the number of partitions, or check it, and publish the limits; return how many.

    ``only_missing``: those that are there are left alone, another worker may have published them.
    Raises `PartitionMismatch` when another number is fixed already: jobs of one user would lose their order.
    """
    limits = {**msgspec.structs.asdict(meta.limits), **{name: getattr(meta, name) for name in _BOUNDS}}
    pairs = [part for name, value in limits.items() for part in (name, value or 0)]
    args = [meta.partitions, int(only_missing), *pairs]
    try:
        with queue_request("publish"):
            published = await scripts.run(redis, "publish", [keys.meta, keys.since], args)
    except PartitionMismatch as error:
        raise PartitionMismatch(meta.partitions, error.actual) from error
    return int(published)


async def repartition(redis: ArqRedis, keys: Keys, partitions: int) -> int:
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
