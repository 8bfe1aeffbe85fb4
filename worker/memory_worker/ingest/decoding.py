"""Decoding and validation: entries become jobs, or dead letters if they can never be applied."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from memory_worker.contract import (
    CONTRACT_VERSION,
    Limits,
    WriteJob,
    check_size,
    checked,
    decode_write,
    partition_of,
    unknown_kind,
)
from memory_worker.contract.errors import InvalidJob, MemoryWorkerError
from memory_worker.failpoints import failpoint
from memory_worker.ingest.arq_jobs import problem_of_record
from memory_worker.ingest.cuts import Cuts
from memory_worker.queue.held import Held
from memory_worker.queue.log import DeadEntry, DeadReason, Entry
from memory_worker.wire.overflow import home_of


class DecodedBatch(msgspec.Struct, frozen=True):
    """A decoded batch: ``jobs`` to apply, and ``dead`` letters.

    ``entries`` are those that became jobs and dead letters. ``held`` is an entry that follows them and that this worker
    cannot apply: one of a newer contract version or of an unknown kind. If ``cut``, an entry follows that needs a new
    batch.
    """

    entries: Sequence[Entry]
    jobs: list[tuple[Entry, WriteJob]]
    dead: list[DeadEntry]
    held: Held | None = None
    cut: bool = False

    def with_dead(self, dead_letter: DeadEntry) -> DecodedBatch:
        """Return the batch with one of its jobs turned into a dead letter."""
        alive = [pair for pair in self.jobs if pair[0] is not dead_letter.entry]
        return DecodedBatch(self.entries, alive, [*self.dead, dead_letter], self.held, self.cut)


def decode_and_validate(entries: Sequence[Entry], limits: Limits, *, partition: int, partitions: int) -> DecodedBatch:
    """Decode and validate ``entries``, up to the first one that needs another worker or a new batch."""
    jobs: list[tuple[Entry, WriteJob]] = []
    dead: list[DeadEntry] = []
    cuts = Cuts()
    for position, entry in enumerate(entries):
        if entry.version > CONTRACT_VERSION:
            held = Held(entry.entry_id, f"contract version {entry.version}")
            return DecodedBatch(entries[:position], jobs, dead, held)
        if entry.crashed:
            dead.append(_dead(entry, "crashed", MemoryWorkerError("every process that tried it died")))
            continue
        try:
            check_size(entry.size_bytes, limits)
        except InvalidJob as error:
            dead.append(_dead(entry, "invalid", error, _decoded_or_none(entry)))
            continue
        try:
            failpoint("decode")
            job = decode_write(entry.body)
        except InvalidJob as error:
            dead.append(_dead(entry, "malformed", problem_of_record(entry.body) or error))
            continue
        unknown = unknown_kind(job, limits)
        if unknown is not None:
            return DecodedBatch(entries[:position], jobs, dead, Held(entry.entry_id, f"kind {unknown!r}"))
        try:
            _check_partition(job, partition, partitions)
            job = checked(job, limits)
        except InvalidJob as error:
            dead.append(_dead(entry, "invalid", error, job))
            continue
        if cuts.must_end_before(job):
            return DecodedBatch(entries[:position], jobs, dead, cut=True)
        jobs.append((entry, job))
    return DecodedBatch(entries, jobs, dead)


def refused(entry: Entry, job: WriteJob, error: Exception) -> DeadEntry:
    """Return the dead letter of an entry that Qdrant refuses."""
    return _dead(entry, "refused", error, job)


def _decoded_or_none(entry: Entry) -> WriteJob | None:
    """Return the job of an entry that is too large, or ``None`` if its body was not read."""
    try:
        return decode_write(entry.body)
    except InvalidJob:
        return None


def _check_partition(job: WriteJob, partition: int, partitions: int) -> None:
    """Refuse a job in a wrong partition, because it would not be in order with the other jobs of its user."""
    expected, home = partition_of(job.user_id, partitions), home_of(partition, partitions)
    if expected != home:
        raise InvalidJob("user_id", f"{job.user_id} belongs to partition {expected}, but the job is in {home}")


def _dead(entry: Entry, reason: DeadReason, error: Exception, job: WriteJob | None = None) -> DeadEntry:
    return DeadEntry(entry=entry, reason=reason, detail=str(error)[:500], job=job)
