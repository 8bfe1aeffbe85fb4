"""The doorbell: the arq job that wakes a worker to drain a partition. At most one waits for each partition."""

from __future__ import annotations

from functools import lru_cache

from arq.connections import ArqRedis

from worker.queue import scripts
from worker.queue.codec import encode_arq
from worker.queue.connection import queue_request
from worker.queue.keys import Keys

DRAIN = "drain"
DOORBELL_LIFE_MS = 24 * 3600 * 1000
ORPHAN_GRACE_S = 1.0


@lru_cache(maxsize=4096)
def doorbell(partition: int) -> bytes:
    """Return arq's record of the drain job of a partition, as arq itself would write it.

    Its enqueue time is zero: the doorbell says that something waits, and the entries know since when.
    """
    return encode_arq({"t": None, "f": DRAIN, "a": (partition,), "k": {}, "et": 0})


async def ring(redis: ArqRedis, keys: Keys, partition: int, *, delay_s: float = 0) -> bool:
    """Wake a worker for the partition in ``delay_s`` seconds, if entries wait and nobody has been woken yet."""
    job_id = keys.drain_job_id(partition)
    with queue_request("ring"):
        rung = await scripts.run(
            redis,
            "ring",
            [keys.stream(partition), keys.drain_queue, keys.arq_job(job_id), keys.drain_bell],
            [job_id, doorbell(partition), DOORBELL_LIFE_MS, int(delay_s * 1000)],
        )
    return bool(rung)


async def claim(
    redis: ArqRedis, keys: Keys, *, groups: int, most_jobs: int, look_at: int, life_s: float
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
            [keys.drain_queue, keys.drain_bell],
            [
                *(groups, most_jobs, look_at, int(life_s * 1000)),
                *(keys.arq_in_progress(""), keys.drain_job_id_prefix, keys.stream_prefix),
            ],
        )
    return claimed, removed


async def finish(redis: ArqRedis, keys: Keys, partition: int, *, ring_after_s: float | None) -> None:
    """End a drain that was claimed; if entries wait, ring again in so many seconds (``None``: somebody else will)."""
    job_id = keys.drain_job_id(partition)
    delay_ms = -1 if ring_after_s is None else int(ring_after_s * 1000)
    with queue_request("finish"):
        await scripts.run(
            redis,
            "finish",
            [
                *(keys.stream(partition), keys.drain_queue, keys.arq_job(job_id)),
                *(keys.arq_in_progress(job_id), keys.drain_bell),
            ],
            [job_id, doorbell(partition), DOORBELL_LIFE_MS, delay_ms],
        )


async def sweep(redis: ArqRedis, keys: Keys, partitions: int, *, grace_s: float = ORPHAN_GRACE_S) -> int:
    """Ring every doorbell that was lost (a worker was killed, a wake-up swallowed); return how many.

    What arq has marked as in progress is taken for lost after ``grace_s`` seconds without a lease.
    """
    script_keys = [keys.drain_queue, keys.backlog, keys.suspects, keys.drain_bell]
    args: list[str | bytes | int] = [DOORBELL_LIFE_MS, int(grace_s * 1000)]
    for partition in range(partitions):
        job_id = keys.drain_job_id(partition)
        script_keys += [
            keys.stream(partition),
            keys.lease(partition),
            keys.arq_job(job_id),
            keys.arq_in_progress(job_id),
        ]
        args += [job_id, doorbell(partition)]
    with queue_request("sweep"):
        return int(await scripts.run(redis, "sweep", script_keys, args))
