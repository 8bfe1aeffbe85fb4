"""Read the writes of arq's own client, and take them over into the streams of their partitions.

Several workers take over writes at once, without a lock. Each write is stored once, and the writes of a user are stored
in the order of arq's queue (by due time, then by job id), for these reasons:

- A write leaves arq's queue in the same atomic step in which its entry is stored. A worker that comes later, or comes
  back from a pause, finds it gone and skips it.
- A worker reads the head of the queue, from the first write on, and stores in that order. So when it stores a write,
  each write before it is either stored already, by itself or by another worker, or was not in the queue yet.
- It stops at the first write that has no room. So no smaller write overtakes it.

Only a write that is enqueued later with an earlier time (another clock, or a time in the past) comes after later ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.contract.errors import QueueFull
from memory_worker.contract.kinds import UserId
from memory_worker.queue.read_jobs import result_key
from memory_worker.queue.scripts import scripts
from memory_worker.wire.arq_records import encode_arq
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import streams_of
from memory_worker.wire.push import receipt_of

MAX_WRITES = 256
MAX_BYTES = 1_048_576
"""The most writes, and the most bytes of them, that are taken over in one step. One write is always taken over."""
_RESULT_LIFE_MS = 60_000
_RECEIPT = "R" * 40
"""A placeholder for the receipt in a result. MessagePack writes the length of such a long text in a separate byte, and
so does the script."""


class ArqWrite(msgspec.Struct, frozen=True):
    """A write as arq's client has enqueued it. ``record`` is arq's job, or only its first byte if it is too large.

    ``due`` is its time in arq's queue, as Redis writes it. ``size_bytes`` is the size of the record.
    """

    job_id: bytes
    due: bytes
    size_bytes: int
    record: bytes

    @property
    def is_too_large(self) -> bool:
        """Whether the record was too large to be read."""
        return len(self.record) < self.size_bytes


class ArqResult(msgspec.Struct, frozen=True):
    """arq's result of a write, in the encoding of its job: the receipt, or the ``error`` for which it is refused.

    ``reason`` is the kind of the error.
    """

    function: str
    enqueued_ms: int
    as_json: bool
    error: str | None = None
    reason: str = ""


class NewEntry(msgspec.Struct, frozen=True):
    """The entry that a write becomes. An empty ``body`` stands for the record itself.

    ``user_id`` is that of the job. It is empty if the job could not be decoded.
    """

    write: ArqWrite
    user_id: UserId
    partition: int
    version: int
    body: bytes
    result: ArqResult


class TakenOver(msgspec.Struct, frozen=True):
    """What was taken over: for each entry its receipt, or ``None`` if somebody else has taken the write over.

    If the queue is full, ``full`` says so, and the receipts are those of the first entries only.
    """

    receipts: list[Receipt | None]
    full: QueueFull | None


async def due_arq_writes(redis: Redis, keys: Keys, *, largest_bytes: int) -> tuple[list[ArqWrite], list[bytes]]:
    """Return the writes at the head of arq's queue that are due, and the ids of those that were removed.

    A write is removed if its record has expired, because then nothing is left of it. A record of more than
    ``largest_bytes`` is not read. Raises `QueueUnavailable`.
    """
    args = [MAX_WRITES, MAX_BYTES, largest_bytes, keys.arq_job("")]
    with queue_request("due_writes"):
        removed, *flat = await scripts.run(redis, "due_writes", [keys.writes_queue], args)
    rows = zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    return [ArqWrite(*row) for row in rows], removed


async def take_over(
    redis: Redis, keys: Keys, partitions: int, entries: Sequence[NewEntry], *, now_ms: int
) -> TakenOver:
    """Store the entries in this order, remove their writes from arq's queue, and store arq's results, in one step.

    Raises `PartitionMismatch` or `QueueUnavailable`. Then nothing was stored.
    """
    places: dict[int, int] = {}
    for entry in entries:
        places.setdefault(entry.partition, len(places) + 1)
    names = [keys.meta, keys.backlog, keys.drain_queue, keys.drain_wakeup, keys.since, keys.writes_queue]
    args: list[int | str | bytes] = [partitions, DRAIN_JOB_LIFE_MS, _RESULT_LIFE_MS, keys.arq_job("")]
    args += [result_key(b""), len(places)]
    for partition in places:
        job_id = keys.drain_job_id(partition)
        names += [keys.stream(partition), keys.arq_job(job_id)]
        args += [partition, job_id, *map(drain_job, streams_of(partition, partitions))]
    for entry in entries:
        args += _arguments(entry, places[entry.partition], keys, now_ms)
    with queue_request("take_over"):
        limit, *stored = await scripts.run(redis, "take_over", names, args)
    receipts = [receipt_of(receipt) if receipt else None for receipt in stored]
    what, _, maximum = limit.decode().partition(" ")
    return TakenOver(receipts, QueueFull(what, int(maximum)) if limit else None)


def _arguments(entry: NewEntry, place: int, keys: Keys, now_ms: int) -> list[int | str | bytes]:
    """Return the arguments of the script about one write."""
    write, result = entry.write, entry.result
    sha1 = "" if write.is_too_large else hashlib.sha1(write.record, usedforsecurity=False).hexdigest()
    of_write = (write.job_id, write.due, write.size_bytes, sha1)
    of_entry = (place, entry.version, entry.body)
    return [*of_write, *of_entry, int(result.as_json), *_result(write, result, keys, now_ms), entry.user_id]


def _result(write: ArqWrite, result: ArqResult, keys: Keys, now_ms: int) -> tuple[bytes, bytes]:
    """Return the beginning and the end of arq's result, between which the script writes the receipt."""
    job_id = write.job_id.decode(errors="backslashreplace")
    of_job = {"t": 1, "f": result.function, "et": result.enqueued_ms, "q": keys.writes_queue, "id": job_id}
    outcome = {"s": result.error is None, "r": result.error or _RECEIPT, "st": now_ms, "ft": now_ms}
    body = encode_arq({**of_job, **outcome}, as_json=result.as_json)
    if result.error is not None:
        return body, b""
    receipt = msgspec.json.encode(_RECEIPT) if result.as_json else msgspec.msgpack.encode(_RECEIPT)
    head, _, tail = body.rpartition(receipt)
    return head, tail
