"""What waits: the state of all partitions, in one round trip."""

from __future__ import annotations

import msgspec
from arq.connections import ArqRedis

from worker.queue import scripts
from worker.queue.connection import queue_errors
from worker.queue.keys import Keys
from worker.queue.log import entry_version, pushed_at_s


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: entries that wait, when the oldest was pushed (unix seconds), life left of its lease (seconds).

    ``version`` is the contract version of the oldest entry; ``dead`` counts dead letters.
    """

    partition: int
    waiting: int
    oldest_pushed_s: float | None
    version: int | None
    lease_s: float | None
    dead: int


async def partition_states(redis: ArqRedis, keys: Keys, partitions: int) -> list[PartitionState]:
    """Return the state of every partition; raises `QueueUnavailable`."""
    script_keys = []
    for partition in range(partitions):
        script_keys += [keys.stream(partition), keys.lease(partition), keys.dead(partition)]
    with queue_errors():
        found = await scripts.run(redis, "state", script_keys, [])
    return [
        PartitionState(
            partition=partition,
            waiting=waiting,
            oldest_pushed_s=pushed_at_s(first_id.decode()) if waiting else None,
            version=entry_version(version) if waiting else None,
            lease_s=lease_ms / 1000 if lease_ms > 0 else None,
            dead=dead,
        )
        for partition, (waiting, first_id, version, lease_ms, dead) in enumerate(found)
    ]
