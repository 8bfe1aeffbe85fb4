"""Push jobs: one round trip stores them in their streams and wakes a worker."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from memory_worker.contract import CONTRACT_VERSION, Receipt
from memory_worker.contract.kinds import UserId
from memory_worker.tracing import MESSAGE_ID, sending, trace_context
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import streams_of
from memory_worker.wire.scripts import scripts

_LIFE_MS = 60_000
_NAMELESS = ""


def new_token() -> str:
    """Return a token by which Redis recognizes copies of one push."""
    return secrets.token_hex(12)


async def push(
    redis: Redis,
    keys: Keys,
    partitions: int,
    jobs: Sequence[tuple[int, bytes]],
    *,
    version: int | Sequence[int] = CONTRACT_VERSION,
    users: Iterable[UserId] = (),
    token: str = "",
    deadline_ms: float = 0,
    life_ms: int = _LIFE_MS,
    min_replicas: int = 0,
) -> list[Receipt]:
    """Append encoded jobs in this order, each to a stream of its partition. Return their receipts.

    ``version`` is the contract version of all jobs, or has that of each. ``users`` are the users of the jobs; jobs
    without one count as those of one nameless user. A user who pushes much at once gets the overflow stream of his
    partition, and then the receipts have its number. All jobs are stored or none. A push that is repeated with the same
    ``token`` (by default a new one) is stored once. The jobs carry the trace context of the caller.

    ``deadline_ms`` is the last moment at which Redis may store the push, in unix milliseconds by Redis's clock; 0 means
    no deadline. A later arrival is refused, because the caller has given up and may have pushed other jobs instead. A
    deadline more than ``life_ms`` ahead is refused too, because it was computed from a wrong clock. Without a deadline,
    ``life_ms`` is how long copies are recognized.

    Raises `InvalidJob` for a job larger than the workers allow, `QueueFull`, `PartitionMismatch`, `TooLate`,
    `QueueUnavailable`, or `NotReplicated` if fewer than ``min_replicas`` replicas of Redis have the stored jobs.
    """
    versions = repeat(version) if isinstance(version, int) else version
    names, given = _arguments(keys, partitions, jobs, versions=versions, users=users, token=token or new_token())
    with sending("send", keys.prefix, count=len(jobs)) as span:
        args = [partitions, DRAIN_JOB_LIFE_MS, int(deadline_ms), life_ms, trace_context(), *given]
        with queue_request("push"):
            found = await scripts.run_replicated(redis, "push", names, args, replicas=min_replicas)
        receipts = [receipt_of(receipt) for receipt in found]
        if span is not None and len(receipts) == 1:
            span.set_attribute(MESSAGE_ID, str(receipts[0]))
    return receipts


async def push_if_unchanged(
    pipe: Pipeline,
    keys: Keys,
    partitions: int,
    jobs: Sequence[tuple[int, bytes]],
    *,
    versions: Iterable[int],
    users: Iterable[UserId],
) -> bool:
    """Push jobs as `push` does, unless a key that ``pipe`` watches has changed. Return whether they were pushed."""
    names, given = _arguments(keys, partitions, jobs, versions=versions, users=users, token=new_token())
    with queue_request("push"):
        await scripts.load(pipe, "push")
        pipe.multi()
        scripts.queue(pipe, "push", names, [partitions, DRAIN_JOB_LIFE_MS, 0, _LIFE_MS, trace_context(), *given])
        try:
            (pushed,) = await pipe.execute(raise_on_error=False)
        except WatchError:
            return False
        if isinstance(pushed, Exception):
            raise pushed
    return True


def receipt_of(text: bytes) -> Receipt:
    """Return the receipt that a script has written."""
    partition, _, entry_id = text.decode().partition("/")
    return Receipt(int(partition), entry_id)


def _arguments(
    keys: Keys,
    partitions: int,
    jobs: Sequence[tuple[int, bytes]],
    *,
    versions: Iterable[int],
    users: Iterable[UserId],
    token: str,
) -> tuple[list[str], list[int | str | bytes]]:
    """Return the keys of a push, and the arguments about the partitions and the jobs."""
    numbers: dict[int, int] = {}
    names = [keys.meta, keys.backlog, keys.drain_queue, keys.drain_wakeup, keys.since, keys.pushed(token)]
    drain_jobs: list[int | str | bytes] = []
    entries: list[int | str | bytes] = []
    for (partition, body), version, user in zip(jobs, versions, chain(users, repeat(_NAMELESS)), strict=False):
        if partition not in numbers:
            job_id = keys.drain_job_id(partition)
            numbers[partition] = len(numbers) + 1
            names += [keys.stream(partition), keys.arq_job(job_id)]
            drain_jobs += [partition, job_id, *map(drain_job, streams_of(partition, partitions))]
        entries += [numbers[partition], version, user, body]
    return names, [len(numbers), *drain_jobs, *entries]
