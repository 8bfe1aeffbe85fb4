"""Push: the producer's side of the streams. One round trip stores the jobs and wakes a worker."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, Receipt
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.scripts import scripts
from memory_worker.wire.wakeup import DRAIN_JOB_LIFE_MS, drain_job

_LIFE_MS = 60_000


def new_token() -> str:
    """Return what tells one push from all others."""
    return secrets.token_hex(12)


async def push(
    redis: Redis,
    keys: Keys,
    partitions: int,
    jobs: Sequence[tuple[int, bytes]],
    *,
    version: int = CONTRACT_VERSION,
    token: str = "",
    latest_ms: float = 0,
    life_ms: int = _LIFE_MS,
    min_replicas: int = 0,
) -> list[Receipt]:
    """Append encoded jobs, each with its partition, in this order; return their receipts.

    All of them are stored or none is, and a push that is repeated with the same ``token`` (by default a new one) is
    stored once. What gets to Redis after ``latest_ms`` (unix milliseconds by Redis's clock; 0: any time) is not stored:
    it could come after what the caller, having given up, pushed in its stead. Nor is anything whose ``latest_ms`` lies
    more than ``life_ms`` ahead: its clock is wrong. Without ``latest_ms``, copies are known for ``life_ms``.

    Raises `InvalidJob` for a job above the size that the workers allow, `QueueFull`, `PartitionMismatch`, `TooLate` or
    `QueueUnavailable`; `NotReplicated` when all are stored, but fewer than ``min_replicas`` replicas have them.
    """
    named: dict[int, int] = {}
    script_keys = [keys.meta, keys.backlog, keys.drain_queue, keys.drain_wakeup]
    script_keys += [keys.since, keys.pushed(token or new_token())]
    drain_jobs: list[int | str | bytes] = []
    entries: list[int | bytes] = []
    for partition, body in jobs:
        if partition not in named:
            job_id = keys.drain_job_id(partition)
            named[partition] = len(named) + 1
            script_keys += [keys.stream(partition), keys.arq_job(job_id)]
            drain_jobs += [partition, job_id, drain_job(partition)]
        entries += [named[partition], body]
    args = [partitions, version, DRAIN_JOB_LIFE_MS, int(latest_ms), life_ms, len(named), *drain_jobs, *entries]
    with queue_request("push"):
        ids = await scripts.run_replicated(redis, "push", script_keys, args, replicas=min_replicas)
    return [Receipt(partition, entry_id.decode()) for (partition, _), entry_id in zip(jobs, ids, strict=True)]
