"""What the queue says of itself in Redis: the number of partitions, and the limits that producers must keep."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Limits
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

DEFAULT_PARTITIONS = 32
BOUNDS = ("max_jobs", "max_bytes", "max_reads", "min_replicas")
_KNOWN = ("partitions", "dimension", "max_job_bytes", *BOUNDS)


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


async def read_meta(redis: Redis, keys: Keys) -> QueueMeta | None:
    """Return what a worker has published, or ``None`` where none has yet."""
    with queue_request("meta"):
        found = await redis.execute_command("HGETALL", keys.meta)
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
        **{name: numbers.get(name, 0) for name in BOUNDS},
    )
