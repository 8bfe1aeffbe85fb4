"""Discard what waits in a paused queue: nobody applies it any more.

Entries leave the head of a stream in steps of a hundred, each of which is atomic (``discard.lua``). A discard that is
interrupted leaves the younger entries in the queue. Nothing is applied in between, because the queue is paused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt, WriteJob, op_of
from memory_worker.contract.errors import NotPaused
from memory_worker.queue.log import Entry, id_after
from memory_worker.queue.outcomes import DISCARDED, OUTCOMES_MAX, outcome_fields
from memory_worker.queue.pausing import leased_partitions
from memory_worker.queue.scripts import scripts
from memory_worker.queue.waiting import job_of, waiting_entries
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import home_of
from memory_worker.wire.pause import read_pause

UNREADABLE = "unreadable"
"""Stands for the op of a job that cannot be decoded."""


async def check_paused(redis: Redis, keys: Keys) -> None:
    """Return if the queue is paused and no batch is in flight. Raises `NotPaused`, `QueueUnavailable`."""
    if await read_pause(redis, keys) is None:
        raise NotPaused
    if leased := await leased_partitions(redis, keys):
        raise NotPaused(leased)


class Discarder:
    """Discards entries of one queue. All methods raise `QueueUnavailable`.

    About ``outcomes_max`` outcomes are kept. 0: none are written.
    """

    def __init__(self, redis: Redis, keys: Keys, partitions: int, *, outcomes_max: int = OUTCOMES_MAX) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = partitions
        self._outcomes_max = outcomes_max

    async def count(self, number: int, last: str, advance: Callable[[int], object]) -> Counter[str]:
        """Count the entries of a stream up to the id ``last`` by their op."""
        counts = Counter[str]()
        async for entries in waiting_entries(self._redis, self._keys.stream(number), last=last):
            counts.update(_op_of(job_of(entry)) for entry in entries)
            advance(len(entries))
        return counts

    async def discard(self, number: int, last: str, advance: Callable[[int], object]) -> None:
        """Discard the entries of a stream up to the id ``last``. ``advance`` gets the number of those of each step.

        Raises `NotPaused` once the queue is not paused any more. Then the others still wait.
        """
        async for entries in waiting_entries(self._redis, self._keys.stream(number), last=last):
            advance(await self._discard(number, entries))

    async def _discard(self, number: int, entries: Sequence[Entry]) -> int:
        keys, home = self._keys, home_of(number, self._partitions)
        script_keys = [keys.paused, keys.lease(number), keys.stream(number), keys.applied(number), keys.removed(number)]
        script_keys += [keys.since, keys.backlog, keys.outcomes, keys.attempts(number), keys.guarded(home)]
        script_keys += [keys.watched, keys.watched_entries(number), keys.overflow_users(home)]
        with queue_request("discard"):
            return int(await scripts.run(self._redis, "discard", script_keys, [self._encoded(number, entries)]))

    def _encoded(self, number: int, entries: Sequence[Entry]) -> bytes:
        jobs = [(entry, job_of(entry)) for entry in entries]
        replays = [(entry.replay_of, job.user_id) for entry, job in jobs if job is not None and entry.replay_of]
        document: dict[str, Any] = {
            "partition": str(number),
            "first": entries[0].entry_id,
            "last": entries[-1].entry_id,
            "after": id_after(entries[-1].entry_id),
            "bytes": sum(entry.size_bytes for entry in entries),
            "overflow": number != home_of(number, self._partitions),
            "most_outcomes": self._outcomes_max,
            "outcomes": [_outcome(number, entry, job) for entry, job in jobs if _is_reported(entry, job)],
            "replays": [{"user_id": str(user_id), "position": position} for position, user_id in replays],
        }
        return msgspec.msgpack.encode(document)


def _op_of(job: WriteJob | None) -> str:
    return UNREADABLE if job is None else op_of(job)


def _is_reported(entry: Entry, job: WriteJob | None) -> bool:
    """Return whether somebody may wait for the outcome: of a replay, it was reported that the job had died."""
    return bool(entry.replay_of or (job is not None and job.notify))


def _outcome(number: int, entry: Entry, job: WriteJob | None) -> list[str]:
    receipt = Receipt(number, entry.entry_id)
    return outcome_fields(receipt, entry.position, job, "dropped", reason=DISCARDED)
