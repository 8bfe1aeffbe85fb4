"""The doorbell: the arq job that wakes a worker to drain a partition. At most one waits for each partition."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys

ORPHAN_GRACE_S = 1.0


async def claim(
    redis: Redis, keys: Keys, *, groups: int, most_jobs: int, look_at: int, life_s: float
) -> tuple[list[list[int]], int]:
    """Claim partitions whose doorbell is due, as arq claims jobs; return them, and how many strangers were removed.

    They come in up to ``groups`` groups: in each, partitions in which ``most_jobs`` entries wait in all, or one in
    which more do. ``look_at`` bounds how many doorbells are looked at: those that others have claimed stand in front.
    A claim that is not finished is taken for lost by `sweep`, and by everybody after ``life_s`` seconds.
    """
    with queue_request("claim"):
        removed, *claimed = await scripts.run(
            redis,
            "claim",
            [keys.drain_queue, keys.drain_wakeup],
            [
                *(groups, most_jobs, look_at, int(life_s * 1000)),
                *(keys.arq_in_progress(""), keys.drain_job_id_prefix, keys.stream_prefix),
            ],
        )
    return claimed, removed


async def finish(redis: Redis, keys: Keys, wake_after_s: Mapping[int, float | None]) -> None:
    """End the drains of these partitions; where entries wait, ring again in so many seconds.

    ``None``: somebody else will.
    """
    script_keys = [keys.drain_queue, keys.drain_wakeup]
    args: list[str | bytes | int] = [DRAIN_JOB_LIFE_MS]
    for partition, after_s in wake_after_s.items():
        job_id = keys.drain_job_id(partition)
        script_keys += [keys.stream(partition), keys.arq_job(job_id), keys.arq_in_progress(job_id)]
        args += [job_id, drain_job(partition), -1 if after_s is None else int(after_s * 1000)]
    with queue_request("finish"):
        await scripts.run(redis, "finish", script_keys, args)


async def rescue(
    redis: Redis, keys: Keys, partitions: int, *, grace_s: float = ORPHAN_GRACE_S, longest_delay_s: float = 3600.0
) -> int:
    """Ring every doorbell that was lost (a worker was killed, a wake-up swallowed); return how many.

    What arq has marked as in progress is taken for lost after ``grace_s`` seconds without a lease. A doorbell that is
    due in more than ``longest_delay_s`` seconds is rung at once: Redis's clock was set back.
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
