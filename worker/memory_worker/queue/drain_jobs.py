"""Claim, finish and rescue drain jobs. A drain job is the arq job that makes a worker drain a partition."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from redis.asyncio import Redis

from memory_worker.queue.lease import Lease, new_token
from memory_worker.queue.log import Head, ReadOptions, head_of
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_errors, queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions

WakeAfter: TypeAlias = float | None
"""When to wake a worker if a partition has entries after a drain: after so many seconds (0: now), or `NO_WAKEUP`."""
NO_WAKEUP: WakeAfter = None
"""Wake no worker, because another drain holds the partition and will wake one."""

_ORPHAN_GRACE_S = 1.0


class OpenOptions(NamedTuple):
    """How to open partitions when they are claimed: take their leases, and read at most ``max_bytes`` in all."""

    read: ReadOptions
    lease_ttl_s: float
    max_bytes: int


class ClaimedGroup(NamedTuple):
    """Partitions that are drained together. Some or all of them may be ``opened``: a lease, and the head that was read.

    The head is ``None`` if another drain holds the lease.
    """

    partitions: Sequence[int]
    opened: Sequence[tuple[Lease, Head | None]] = ()


async def claim_partitions(
    redis: Redis,
    keys: Keys,
    partitions: int,
    *,
    max_groups: int,
    batch_jobs: int,
    scan_limit: int,
    life_s: float,
    opening: OpenOptions | None = None,
    behind: Sequence[Any] | None = None,
) -> tuple[list[ClaimedGroup], int]:
    """Claim partitions whose drain jobs are due. Return them in groups, and how many foreign jobs were moved away.

    The oldest come first. Overflow streams of the queue with so many ``partitions`` count as a second younger.

    A group is either one partition, or several partitions that have at most ``batch_jobs`` waiting entries in all.
    At most ``scan_limit`` drain jobs are examined, including those at the head that other workers have claimed. A claim
    expires after ``life_s`` seconds. If its worker has died, `rescue_partitions` removes it earlier. While the queue is
    paused, nothing is claimed.

    With ``opening``, as many of the partitions are opened as fit into one batch in all. This saves a round trip. So
    does ``behind``: the command that waits for a wakeup, which is sent together with the claim and comes first.
    """
    claim, started = _Claim(keys, partitions, opening), time.monotonic()
    args = claim.args(max_groups, batch_jobs, scan_limit, int(life_s * 1000))
    script_keys = [keys.drain_queue, keys.drain_wakeup, keys.writes_queue, keys.meta, keys.paused]
    if behind is None:
        with queue_request("claim"):
            moved, *groups = await scripts.run(redis, "claim", script_keys, args)
    else:
        with queue_errors():
            moved, *groups = await scripts.run_behind(redis, "claim", script_keys, args, command=behind)
    return [claim.group(group, found, started) for group, *found in groups], moved


class _Claim:
    """The arguments of a claim, and what its reply means."""

    def __init__(self, keys: Keys, partitions: int, opening: OpenOptions | None) -> None:
        self._keys = keys
        self._partitions = partitions
        self._opening = opening
        self._token = new_token()

    def args(self, max_groups: int, batch_jobs: int, scan_limit: int, life_ms: int) -> list[Any]:
        """Return the arguments of claim.lua."""
        keys, opening = self._keys, self._opening
        args: list[Any] = [
            *(max_groups, batch_jobs, scan_limit, life_ms, keys.arq_in_progress(""), keys.drain_job_id_prefix),
            *(keys.lease_prefix, keys.guarded_prefix, keys.attempts_prefix, keys.stream_prefix, self._partitions),
        ]
        if opening is not None:
            ttl_ms = int(opening.lease_ttl_s * 1000)
            args += [msgspec.msgpack.encode(opening.read), ttl_ms, opening.max_bytes, self._token]
        return args

    def group(self, partitions: Sequence[int], found: Sequence[list[Any] | None], started: float) -> ClaimedGroup:
        """Return a group of partitions. The first of them were opened, and ``found`` is what was read of each."""
        ttl_s = self._opening.lease_ttl_s if self._opening else 0
        leases = (Lease(partition, ttl_s, self._token) for partition in partitions)
        opened = [(lease, head_of(lease, one, started)) for lease, one in zip(leases, found, strict=False)]
        return ClaimedGroup(partitions, opened)


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
    script_keys = [keys.drain_queue, keys.backlog, keys.orphaned, keys.drain_wakeup, keys.paused]
    args: list[str | bytes | int] = [DRAIN_JOB_LIFE_MS, int(grace_s * 1000), int(longest_delay_s * 1000)]
    for partition in all_partitions(partitions):
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
