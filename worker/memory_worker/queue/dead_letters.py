"""Dead letters are entries that can never be applied. They are kept until somebody replays or drops them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt, WriteJob, decode_write
from memory_worker.contract.errors import InvalidJob, Superseded, Unguarded
from memory_worker.queue.guards import load_guards
from memory_worker.queue.log import parse_position, parse_trace, parse_version
from memory_worker.queue.outcomes import OUTCOMES_MAX
from memory_worker.queue.replay_guard import Position
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.overflow import home_of, streams_of
from memory_worker.wire.push import receipt_of

_PAGE = 200


class DeadLetterHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter without its job: its receipt, the reason, the time of its death, and the size of its job.

    ``position`` is the place of the job in the order in which jobs were first pushed. A job that was replayed and died
    again keeps it. Dead letters should be replayed in this order.
    """

    receipt: Receipt
    position: Position
    reason: str
    detail: str
    op: str
    user_id: str
    ref: str
    died_s: float
    """Unix seconds."""
    version: int
    size: int
    """Bytes."""
    trace: str = ""
    """The trace context of the push."""


class DeadLetter(DeadLetterHeader, frozen=True, kw_only=True):
    """A dead letter with its job as it was pushed."""

    body: bytes


class DeadLetters:
    """The dead letters of all partitions, by their receipts. All methods raise `QueueUnavailable`.

    Drops and replays are reported as outcomes, of which about ``outcomes_max`` are kept. 0: none are written.
    """

    def __init__(self, redis: Redis, keys: Keys, partitions: int, *, outcomes_max: int = OUTCOMES_MAX) -> None:
        self.partitions = partitions
        self._outcomes_max = outcomes_max
        self._redis = redis
        self._keys = keys

    @classmethod
    async def open(cls, redis: Redis, keys: Keys, *, outcomes_max: int = OUTCOMES_MAX) -> Self:
        """Return the dead letters of a queue. The number of partitions is read from Redis."""
        meta = await read_meta(redis, keys) or QueueMeta()
        return cls(redis, keys, meta.partitions, outcomes_max=outcomes_max)

    async def headers(self, partition: int, *, first: str = "-", last: str = "+") -> AsyncIterator[DeadLetterHeader]:
        """Yield the headers of a partition, oldest first, from the id ``first`` to the id ``last``.

        They are read page by page, and without the jobs. So any number of them takes little memory.
        """
        while True:
            with queue_request("dead_list"):
                page = await scripts.run(self._redis, "dead_page", [self._keys.dead(partition)], [first, last, _PAGE])
            for entry_id, flat in page:
                yield header_of(partition, entry_id, flat)
            if len(page) < _PAGE:
                return
            first = f"({page[-1][0].decode()}"

    async def header(self, receipt: Receipt) -> DeadLetterHeader | None:
        """Return the header of a dead letter, or ``None`` if there is no such dead letter."""
        async for found in self.headers(receipt.partition, first=receipt.entry_id, last=receipt.entry_id):
            return found
        return None

    async def get(self, receipt: Receipt) -> DeadLetter | None:
        """Return a dead letter, or ``None`` if there is no such dead letter."""
        with queue_request("dead_get"):
            found = await self._redis.xrange(self._keys.dead(receipt.partition), receipt.entry_id, receipt.entry_id)
        if not found:
            return None
        fields = found[0][1]
        body = fields.get(b"j", b"")
        return DeadLetter(size=len(body), body=body, **_header_fields(receipt, fields))

    async def drop(self, receipts: Sequence[Receipt]) -> int:
        """Delete dead letters for good. Return how many were deleted."""
        by_partition: dict[int, list[str]] = {}
        for receipt in receipts:
            by_partition.setdefault(receipt.partition, []).append(receipt.entry_id)
        keys, dropped = self._keys, 0
        with queue_request("dead_drop"):
            for partition, ids in by_partition.items():
                guarded = keys.guarded(home_of(partition, self.partitions))
                script_keys = [keys.dead(partition), keys.backlog, guarded, keys.outcomes]
                script_keys += [keys.removed(partition), keys.since]
                args = [partition, self._outcomes_max, *ids]
                dropped += int(await scripts.run(self._redis, "drop", script_keys, args))
        return dropped

    async def replay(self, receipt: Receipt, *, force: bool = False) -> Receipt | None:
        """Push the job of a dead letter again, as the last job of its user. Return the new receipt.

        Return ``None`` if there is no such dead letter. Raises `Superseded` if newer jobs of the same points have been
        applied since, or `Unguarded` if this is unknown. With ``force`` there is no such check. If such a job is still
        waiting, the replayed job becomes a dead letter again when it is its turn.
        """
        dead_letter = await self.get(receipt)
        if dead_letter is None:
            return None
        job = _job_of(dead_letter)
        if not force:
            await self._check_replay(dead_letter, job)
        keys, partition = self._keys, receipt.partition
        home, overflow = streams_of(partition, self.partitions)
        job_id = keys.drain_job_id(home)
        with queue_request("replay"):
            replayed = await scripts.run(
                self._redis,
                "replay",
                [
                    *(keys.dead(partition), keys.stream(home), keys.backlog, keys.drain_queue),
                    *(keys.arq_job(job_id), keys.drain_wakeup, keys.guarded(home)),
                    *(keys.since, keys.outcomes, keys.removed(partition)),
                ],
                [
                    *(receipt.entry_id, job_id, drain_job(home), DRAIN_JOB_LIFE_MS),
                    *(int(force), partition, self._outcomes_max),
                    *(home, self.partitions, drain_job(overflow), "" if job is None else job.user_id),
                ],
            )
        return receipt_of(replayed) if replayed else None

    async def _check_replay(self, dead_letter: DeadLetter, job: WriteJob | None) -> None:
        position, home = dead_letter.position, home_of(dead_letter.receipt.partition, self.partitions)
        if job is None:
            raise Unguarded
        guards = await load_guards(self._redis, self._keys, home, [(position, job)])
        guard = guards.get(job.user_id)
        if guard is None or position not in guard.dead_letters:
            raise Unguarded
        if guard.is_stale(job, position):
            raise Superseded


def header_of(partition: int, entry_id: bytes, flat: Sequence[Any]) -> DeadLetterHeader:
    """Return the header of an entry as a script returns it: names and values, with the size of the job."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    receipt = Receipt(partition, entry_id.decode())
    return DeadLetterHeader(size=int(fields.get(b"j", 0)), **_header_fields(receipt, fields))


def _job_of(dead_letter: DeadLetter) -> WriteJob | None:
    """Return the job of a dead letter, or ``None`` if it cannot be decoded."""
    try:
        return decode_write(dead_letter.body)
    except InvalidJob:
        return None


def _header_fields(receipt: Receipt, fields: dict[bytes, Any]) -> dict[str, Any]:
    """Return the fields of a header, except the size."""

    def text(name: bytes) -> str:
        return str(fields.get(name, b"").decode(errors="replace"))

    return {
        "receipt": receipt,
        "position": parse_position(fields.get(b"r", b"")) or receipt.entry_id,
        "reason": text(b"reason"),
        "detail": text(b"detail"),
        "op": text(b"op"),
        "user_id": text(b"user_id"),
        "ref": text(b"ref"),
        "died_s": int(fields.get(b"at", b"0")) / 1000,
        "version": parse_version(fields.get(b"v", b"")),
        "trace": parse_trace(fields.get(b"t", b"")),
    }
