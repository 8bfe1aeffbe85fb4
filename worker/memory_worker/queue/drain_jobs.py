"""Claim, finish and rescue drain jobs. A drain job is the arq job that makes a worker drain a partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys

WakeAfter: TypeAlias = float | None
"""When to wake a worker if a partition has entries after a drain: after so many seconds (0: now), or `NO_WAKEUP`."""
NO_WAKEUP: WakeAfter = None
"""Wake no worker, because another drain holds the partition and will wake one."""

_ORPHAN_GRACE_S = 1.0


async def claim_partitions(
    redis: Redis, keys: Keys, *, max_groups: int, batch_jobs: int, scan_limit: int, life_s: float
) -> tuple[list[list[int]], int]:
    """Claim partitions whose drain jobs are due. Return them in groups, and how many foreign jobs were moved away.

    A group is either one partition, or several partitions that have at most ``batch_jobs`` waiting entries in all.
    At most ``scan_limit`` drain jobs are examined, including those at the head that other workers have claimed. A claim
    expires after ``life_s`` seconds. If its worker has died, `rescue_partitions` removes it earlier.
    """
    with queue_request("claim"):
        moved, *groups = await scripts.run(
            redis,
            "claim",
            [keys.drain_queue, keys.drain_wakeup, keys.writes_queue],
            [
                *(max_groups, batch_jobs, scan_limit, int(life_s * 1000)),
                *(keys.arq_in_progress(""), keys.drain_job_id_prefix, keys.stream_prefix),
            ],
        )
    return groups, moved


async def finish_partitions(redis: Redis, keys: Keys, wake_after_s: Mapping[int, WakeAfter]) -> None:
    """End the drain jobs of these partitions. Queue them again, as `WakeAfter` says, for those that have entries."""
    script_keys = [keys.drain_queue, keys.drain_wakeup]
    args: list[str | bytes | int] = [DRAIN_JOB_LIFE_MS]
    for partition, after_s in wake_after_s.items():
        job_id = keys.drain_job_id(partition)
        script_keys += [keys.stream(partition), keys.arq_job(job_id), keys.arq_in_progress(job_id)]
        args += [job_id, drain_job(partition), -1 if after_s is None else int(after_s * 1000)]
    with queue_request("finish"):
        await scripts.run(redis, "finish", script_keys, args)


async def rescue_partitions(
    redis: Redis, keys: Keys, partitions: int, *, grace_s: float = _ORPHAN_GRACE_S, longest_delay_s: float = 3600.0
) -> int:
    """Queue each drain job that was lost, for example because its worker was killed. Return how many.

    A claim counts as lost after ``grace_s`` seconds without a lease. A drain job that is due in more than
    ``longest_delay_s`` seconds is queued for now, because Redis's clock was set back.
    """
    script_keys = [keys.drain_queue, keys.backlog, keys.orphaned, keys.drain_wakeup]
    args: list[str | bytes | int] = [DRAIN_JOB_LIFE_MS, int(grace_s * 1000), int(longest_delay_s * 1000)]
    for partition in range(partitions):
        job_id = keys.drain_job_id(partition)
        script_keys += [
            keys.stream(partition),
            keys.lease(partition),
            keys.arq_job(job_id),
            keys.arq_in_progress(job_id),
            keys.dead(partition),
        ]
        args += [job_id, drain_job(partition)]
    with queue_request("rescue"):
        return int(await scripts.run(redis, "rescue", script_keys, args))
