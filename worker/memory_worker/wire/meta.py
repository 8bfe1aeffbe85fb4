"""The metadata of the queue in Redis: the number of partitions, and the limits that producers must keep."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Limits
from memory_worker.contract.kind_specs import decode_kinds, encode_kinds
from memory_worker.contract.kinds import KINDS
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

DEFAULT_PARTITIONS = 32
QUEUE_LIMITS = ("max_jobs", "max_bytes", "max_reads", "min_replicas", "user_burst")
_FIELDS = ("partitions", "dimension", "max_job_bytes", *QUEUE_LIMITS)


class QueueMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The number of partitions, which is fixed at first use, and the limits, which follow the workers' settings.

    ``max_jobs`` and ``max_bytes`` bound the whole backlog, ``max_reads`` the read jobs that wait. 0 means no limit.
    ``min_replicas`` replicas of Redis must have a job before its push returns. While a partition has ``user_burst``
    waiting jobs, a user who pushes as many more gets its overflow stream. 0: there are no overflow streams.
    """

    partitions: int = DEFAULT_PARTITIONS
    limits: Limits = Limits()
    max_jobs: int = 0
    max_bytes: int = 0
    max_reads: int = 0
    min_replicas: int = 0
    user_burst: int = 0


def published_limits(limits: Limits) -> dict[str, int | bytes | None]:
    """Return the fields in which limits are published.

    A dimension that all kinds share is a field of its own, which older producers know. If they differ, each kind is
    published with its dimension.
    """
    dimensions = {limits.dimension_of(kind) for kind in limits.kinds.values()}
    kinds = limits.kinds
    if len(dimensions) > 1:
        kinds = {name: replace(kind, dimension=limits.dimension_of(kind)) for name, kind in kinds.items()}
    return {
        "dimension": dimensions.pop() if len(dimensions) == 1 else None,
        "max_job_bytes": limits.max_job_bytes,
        "kinds": encode_kinds(kinds),
    }


async def read_meta(redis: Redis, keys: Keys) -> QueueMeta | None:
    """Return the published metadata, or ``None`` if no worker has published any. Raises `QueueUnavailable`."""
    with queue_request("meta"):
        found = await redis.execute_command("HGETALL", keys.meta)
    # Other fields are ignored: another version of the worker may publish more, and in another form.
    numbers = {name: int(found[name.encode()]) for name in _FIELDS if found.get(name.encode(), b"").isdigit()}
    if "partitions" not in numbers:
        return None
    return QueueMeta(
        partitions=numbers["partitions"],
        limits=Limits(
            dimension=numbers.get("dimension"),
            max_job_bytes=numbers.get("max_job_bytes", Limits().max_job_bytes),
            kinds=decode_kinds(found.get(b"kinds", b"")) or KINDS,
        ),
        **{name: numbers.get(name, 0) for name in QUEUE_LIMITS},
    )
