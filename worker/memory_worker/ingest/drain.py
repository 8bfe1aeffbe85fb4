"""The drain: it applies the entries of one stream of a partition in order, one batch at a time.

    read ─▶ decode ─▶ plan ─▶ apply ─▶ commit ─▶ read ...

It ends if the stream is empty or its entries must wait for older ones of the home stream, if its time slice is over,
the process stops, the queue is paused, an entry needs another worker, or Qdrant or Redis fail. It never raises because
of a job: each ending is a value that says when to wake a worker again. An entry leaves its stream only in a commit. By
then Qdrant has confirmed it, or it moves to the dead letters.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from memory_worker.contract.errors import LeaseLost, QueuePaused, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.context import (
    BUSY,
    OUTAGE_ERRORS,
    PAUSED,
    DrainContext,
    DrainResult,
    Ending,
    Opened,
    commit_of,
)
from memory_worker.ingest.decoding import DecodedBatch, refused
from memory_worker.ingest.outcome import Outcome
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import DeadEntry, Head


class _Progress(msgspec.Struct):
    """The jobs and dead letters that a drain has committed, and whether users of the partition have dead letters."""

    has_dead_letters: bool
    jobs: int = 0
    dead: int = 0

    def ended(self, ending: Ending, *, finished: bool = False) -> DrainResult:
        return DrainResult(ending=ending, finished=finished, jobs=self.jobs, dead=self.dead)


class _TrySmallerBatch(Exception):
    """The batch failed, and must be read again with fewer jobs."""


class PartitionDrain:
    """Drains one partition at a time."""

    def __init__(self, context: DrainContext) -> None:
        self._context = context

    async def drain(self, partition: int, opened: Opened) -> DrainResult:
        """Apply the entries of ``partition`` for one time slice, unless another drain holds its lease."""
        try:
            result = await self._try(partition, opened, in_quarantine=False)
            while result is None:
                result = await self._try(partition, opened, in_quarantine=True)
        except QueuePaused:
            return PAUSED
        return result

    async def _try(self, partition: int, opened: Opened, *, in_quarantine: bool) -> DrainResult | None:
        """Drain, and return the result; ``None`` if the partition needs quarantine."""
        context = self._context
        async with (
            context.quarantine.hold(exclusive=in_quarantine),
            context.leased([partition], opened, in_quarantine=in_quarantine) as ((lease, head),),
        ):
            if head is None:
                return BUSY
            if head.needs_quarantine and not in_quarantine:
                return None
            return await self.drain_from(lease, head, context.slice_s(partition))

    async def drain_from(self, lease: Lease, head: Head, slice_s: float) -> DrainResult:
        """Apply ``head``, which was read already, then more entries for ``slice_s`` seconds; with 0 only ``head``."""
        try:
            return await self._drain(lease, head, slice_s)
        except LeaseLost:
            return self._context.end_lost(lease)
        except QueuePaused:
            return PAUSED
        except OUTAGE_ERRORS as error:
            return self._context.end_outage(lease, error)

    async def _drain(self, lease: Lease, head: Head, slice_s: float) -> DrainResult:
        context, until = self._context, time.monotonic() + slice_s
        progress = _Progress(head.has_dead_letters)
        batch = context.decode_and_validate(lease, head.entries) if head.entries else None
        while batch is not None:
            if batch.held and not batch.entries:
                return await context.end_held(lease, batch.held, jobs=progress.jobs, dead=progress.dead)
            left, following = await self._apply_and_commit(lease, batch, progress)
            if left == 0:
                return progress.ended("empty", finished=True)
            if context.stopping():
                return progress.ended("stopped")
            if time.monotonic() >= until:
                return progress.ended("slice")
            batch = following or await self._read(lease, progress)
        return context.end_without_entries(lease, jobs=progress.jobs, dead=progress.dead)

    async def _apply_and_commit(
        self, lease: Lease, batch: DecodedBatch, progress: _Progress
    ) -> tuple[int | None, DecodedBatch | None]:
        """Apply and commit a batch. If it is full, read the next batch at the same time.

        Return how many entries are left, and the next batch if it was read. ``None`` entries left means that a smaller
        batch must be tried.
        """
        ahead = asyncio.create_task(self._read(lease, progress, behind=batch)) if self._is_full(lease, batch) else None
        try:
            with self._context.processing([(lease, batch.entries)]):
                started = time.monotonic()
                outcome = await self._apply(lease, batch, has_dead_letters=progress.has_dead_letters)
                if outcome is None:
                    return None, None
                left = await self._commit(lease, batch, outcome, apply_s=time.monotonic() - started)
            progress.jobs += len(batch.entries)
            progress.dead += len(outcome.dead)
            progress.has_dead_letters |= bool(outcome.dead)
            return left, await ahead if ahead and left else None
        finally:
            if ahead is not None and not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # ignored: the same error comes again when the batch is read in its turn

    async def _read(
        self, lease: Lease, progress: _Progress, *, behind: DecodedBatch | None = None
    ) -> DecodedBatch | None:
        context = self._context
        failpoint("before_read")
        entries, has_dead_letters = await context.log.read(
            lease,
            max_jobs=context.sizes.of(lease.partition),
            max_bytes=context.options.batch_max_bytes,
            after=behind.entries[-1] if behind else None,
        )
        failpoint("read")
        progress.has_dead_letters |= has_dead_letters  # the drain of the other stream may have added some
        return context.decode_and_validate(lease, entries) if entries else None

    def _is_full(self, lease: Lease, batch: DecodedBatch) -> bool:
        """Say whether more entries probably wait: the batch was cut, or has all jobs or half of the bytes allowed."""
        if batch.cut:
            return True
        context = self._context
        size_bytes = sum(len(entry.body) for entry in batch.entries)
        full = context.sizes.of(lease.partition)
        return len(batch.entries) >= full or size_bytes > context.options.batch_max_bytes // 2

    async def _apply(self, lease: Lease, batch: DecodedBatch, *, has_dead_letters: bool) -> Outcome | None:
        """Apply the jobs of a batch. Return the outcome to commit; ``None`` if a smaller batch must be tried.

        After each failure the batch is smaller, until the job to blame is the only one. Then batches grow again.
        """
        context = self._context
        while True:
            outcome = await context.decide(lease, batch, has_dead_letters=has_dead_letters)
            try:
                dead_letter = await self._write(lease, outcome)
            except _TrySmallerBatch:
                return None
            if dead_letter is None:
                context.record_applied([lease.partition], jobs=len(outcome.jobs))
                return outcome
            # Decide again: a replay in this batch may be no longer stale without the dead job.
            batch = batch.with_dead(dead_letter)

    async def _write(self, lease: Lease, outcome: Outcome) -> DeadEntry | None:
        """Write the jobs of a batch. If there is only one and it is to blame, return its dead letter.

        Raises `_TrySmallerBatch`, and for outages as `Judge.judge_batch`.
        """
        if not outcome.jobs:
            return None
        judge, jobs = self._context.judge, [job for _, job in outcome.jobs]
        entry, job = outcome.jobs[0]
        if len(jobs) == 1 and (poison_error := judge.poison_error(lease.partition, entry.entry_id)):
            return refused(entry, job, poison_error)
        try:
            await self._context.writer.write([lease], jobs)
        except (StoreRefused, StoreUnavailable) as error:
            if await judge.judge_batch(lease.partition, jobs, entry.entry_id, error) == "smaller":
                raise _TrySmallerBatch from error
            return refused(entry, job, error)
        return None

    async def _commit(self, lease: Lease, batch: DecodedBatch, outcome: Outcome, *, apply_s: float) -> int:
        commit = commit_of(lease, batch, outcome)
        failpoint("before_commit")
        # Shielded: applied entries must leave the stream even if this drain is cancelled now.
        left = await asyncio.shield(self._context.log.commit(commit))
        failpoint("committed")
        self._context.record_commit(commit, outcome, apply_s=apply_s)
        return left
