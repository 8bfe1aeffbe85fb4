"""Find what the queue still holds of a user: waiting jobs, dead letters, writes of arq's own client, and the rest.

Everything is read, nothing is changed. All functions raise `QueueUnavailable`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt, partition_of
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import UserId
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.waiting import waiting_entries
from memory_worker.wire.arq_records import decode_arq, job_of_arguments
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions

_PAGE = 200
_OUTCOMES_PAGE = 1000


class QueueLeftovers(msgspec.Struct, kw_only=True):
    """What the queue holds of a user.

    The first five hold jobs, or what the user's points are called. ``copies`` are kept for a minute while `reconcile`
    runs. ``outcomes`` and ``overflow`` hold the user's id, and outcomes the refs of jobs. Of those counted as
    ``unreadable``, nobody can tell whose they are.
    """

    waiting: int = 0
    copies: int = 0
    dead_letters: int = 0
    arq_writes: int = 0
    replay_guard: int = 0
    outcomes: int = 0
    overflow: int = 0
    unreadable: int = 0


async def find_leftovers(redis: Redis, keys: Keys, partitions: int, user_id: UserId) -> QueueLeftovers:
    """Return what the queue holds of a user, in all partitions."""
    found, wanted = QueueLeftovers(), str(user_id)
    for number in all_partitions(partitions):
        found.waiting += await _count_entries(redis, keys.stream(number), wanted, found)
        found.copies += await _count_entries(redis, keys.watched_entries(number), wanted, found)
        found.dead_letters += await _count_dead_letters(DeadLetters(redis, keys, partitions), number, wanted, found)
    found.arq_writes = await _count_arq_writes(redis, keys, wanted, found)
    found.outcomes = await _count_outcomes(redis, keys, wanted)
    home = partition_of(user_id, partitions)
    with queue_request("leftovers"):
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hlen(keys.guarded_dead_letters(home, user_id))
            pipe.hlen(keys.guarded_points(home, user_id))
            pipe.sismember(keys.guarded(home), wanted)
            pipe.hexists(keys.overflow_users(home), wanted)
            pipe.hexists(keys.overflow_counts(home), wanted)
            *guard, overflows, is_counted = await pipe.execute()
    found.replay_guard, found.overflow = sum(map(int, guard)), int(overflows) + int(is_counted)
    return found


def owners_of(document: bytes) -> set[str]:
    """Return the user ids in a job, or in a job of arq's own client. There are none if it cannot be read.

    Invalid jobs have owners, too.
    """
    try:
        record = decode_arq(document)  # a job is such a map, too
        jobs: list[Any] = [record, job_of_arguments(record.get("a", ()), record.get("k", {}))]
    except (msgspec.DecodeError, InvalidJob, TypeError):
        return set()
    if isinstance(record.get("record"), bytes):  # see `memory_worker.ingest.arq_jobs`
        return owners_of(record["record"])
    found = (job["user_id"] for job in jobs if isinstance(job, Mapping) and "user_id" in job)
    return {str(user_id) for user_id in found}


async def _count_entries(redis: Redis, stream: str, wanted: str, found: QueueLeftovers) -> int:
    count = 0
    async for entries in waiting_entries(redis, stream):
        count += _count_owned((entry.body for entry in entries), wanted, found)
    return count


def _count_owned(documents: Iterable[bytes], wanted: str, found: QueueLeftovers) -> int:
    """Return how many of the documents the user owns. Those that cannot be read are added to ``found``."""
    count = 0
    for document in documents:
        owners = owners_of(document)
        found.unreadable += not owners
        count += wanted in owners
    return count


async def _count_dead_letters(dead_letters: DeadLetters, number: int, wanted: str, found: QueueLeftovers) -> int:
    count = 0
    async for header in dead_letters.headers(number):
        count += header.user_id == wanted or (
            not header.user_id and _count_owned(await _body(dead_letters, header.receipt), wanted, found)
        )
    return count


async def _body(dead_letters: DeadLetters, receipt: Receipt) -> Sequence[bytes]:
    dead_letter = await dead_letters.get(receipt)
    return [] if dead_letter is None else [dead_letter.body]


async def _count_arq_writes(redis: Redis, keys: Keys, wanted: str, found: QueueLeftovers) -> int:
    """Count the writes that no worker has taken over, also those that are due later."""
    count = 0
    async for ids in _arq_writes(redis, keys):
        with queue_request("leftovers"):
            async with redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.execute_command("GET", keys.arq_job("").encode() + job_id)
                records = await pipe.execute()
        count += _count_owned((record for record in records if record is not None), wanted, found)
    return count


async def _arq_writes(redis: Redis, keys: Keys) -> AsyncIterator[list[bytes]]:
    first = 0
    while True:
        with queue_request("leftovers"):
            ids = await redis.zrange(keys.writes_queue, first, first + _PAGE - 1)
        if not ids:
            return
        yield ids
        first += len(ids)


async def _count_outcomes(redis: Redis, keys: Keys, wanted: str) -> int:
    count, start = 0, "-"
    while True:
        with queue_request("leftovers"):
            page = await redis.xrange(keys.outcomes, start, "+", count=_OUTCOMES_PAGE)
        count += len([1 for _, fields in page if fields.get(b"user_id") == wanted.encode()])
        if len(page) < _OUTCOMES_PAGE:
            return count
        start = f"({page[-1][0].decode()}"
