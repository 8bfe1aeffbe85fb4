"""The drain: applies the entries of one partition, head first, one batch in flight.

    read ─▶ take in ─▶ plan ─▶ apply ─▶ commit ─▶ read ...

It ends when the partition is empty, when its slice of time is over, when it must stop, when an entry must be held, or
when Qdrant or Redis fail. It never raises for a job: an end is a value, and says when to ring again. An entry leaves
its stream only in a commit: after Qdrant has confirmed it, or into the dead letters.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from memory_worker.contract.errors import LeaseLost, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.context import BUSY, OUTAGES, DrainContext, DrainResult, Ending, done_of
from memory_worker.ingest.decoding import DecodedBatch, refused
from memory_worker.ingest.outcome import Outcome
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import DeadEntry, Head


class _Progress(msgspec.Struct):
    """How far a drain has come: jobs and dead letters of the batches behind it, and whether letters are there."""

    has_dead_letters: bool
    jobs: int = 0
    dead: int = 0

    def ended(self, ending: Ending) -> DrainResult:
        return DrainResult(ending=ending, jobs=self.jobs, dead=self.dead)


class _TooMany(Exception):
    """Fewer jobs must be tried at once."""


class PartitionDrain:
    """Drains partitions one at a time."""

    def __init__(self, context: DrainContext) -> None:
        self._context = context

    async def drain(self, partition: int) -> DrainResult:
        """Apply what waits in ``partition`` for a slice of time, if no other drain holds its lease."""
        result = await self._try(partition, alone=False)
        while result is None:
            result = await self._try(partition, alone=True)
        return result

    async def _try(self, partition: int, *, alone: bool) -> DrainResult | None:
        """Return how it ended; ``None``: it must be tried alone."""
        context = self._context
        async with context.quarantine.enter(alone=alone), context.leased([partition], alone=alone) as ((lease, head),):
            if head is None:
                return BUSY
            if head.needs_quarantine and not alone:
                return None
            return await self.go_on(lease, head, context.options.slice_s)

    async def go_on(self, lease: Lease, head: Head, slice_s: float) -> DrainResult:
        """Apply ``head``, which has been read, and what follows it for ``slice_s`` seconds; 0: nothing."""
        try:
            return await self._drain(lease, head, slice_s)
        except LeaseLost:
            return self._context.lost(lease)
        except OUTAGES as error:
            return self._context.failed(lease, error)

    async def _drain(self, lease: Lease, head: Head, slice_s: float) -> DrainResult:
        context, until = self._context, time.monotonic() + slice_s
        progress = _Progress(head.has_dead_letters)
        batch = context.decode_and_validate(lease, head.entries) if head.entries else None
        while batch is not None:
            if not batch.taken:
                return context.held(lease, jobs=progress.jobs, dead=progress.dead)
            left, following = await self._finish(lease, batch, progress)
            if left == 0:
                break
            if context.stopping():
                return progress.ended("stopped")
            if time.monotonic() >= until:
                return progress.ended("slice")
            batch = following or await self._read(lease)
        return progress.ended("empty")

    async def _finish(
        self, lease: Lease, batch: DecodedBatch, progress: _Progress
    ) -> tuple[int | None, DecodedBatch | None]:
        """Apply and commit a batch, reading ahead meanwhile if it was a full one.

        Return how many entries are left (``None``: smaller batches must be tried first), and the batch behind it if it
        is known.
        """
        ahead = asyncio.create_task(self._read(lease, behind=batch)) if self._is_full(lease, batch) else None
        try:
            started = time.monotonic()
            outcome = await self._apply(lease, batch, has_dead_letters=progress.has_dead_letters)
            if outcome is None:
                return None, None
            left = await self._commit(lease, batch, outcome, apply_s=time.monotonic() - started)
            progress.jobs += len(batch.taken)
            progress.dead += len(outcome.dead)
            progress.has_dead_letters |= bool(outcome.dead)
            return left, await ahead if ahead and left else None
        finally:
            if ahead is not None and not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # what went wrong ahead shows again when it is read in its turn

    async def _read(self, lease: Lease, *, behind: DecodedBatch | None = None) -> DecodedBatch | None:
        context = self._context
        failpoint("before_read")
        entries = await context.log.read(
            lease,
            max_jobs=context.sizes.of(lease.partition),
            max_bytes=context.options.batch_max_bytes,
            after=behind.taken[-1] if behind else None,
        )
        failpoint("read")
        return context.decode_and_validate(lease, entries) if entries else None

    def _is_full(self, lease: Lease, batch: DecodedBatch) -> bool:
        """Say whether more is likely to wait behind the batch: it has as many jobs, or about the bytes, it may have."""
        context = self._context
        size_bytes = sum(len(entry.body) for entry in batch.taken)
        full = context.sizes.of(lease.partition)
        return len(batch.taken) >= full or size_bytes > context.options.batch_max_bytes // 2

    async def _apply(self, lease: Lease, batch: DecodedBatch, *, has_dead_letters: bool) -> Outcome | None:
        """Apply the jobs of a batch; return what is to be committed, or ``None`` when fewer must be tried first.

        A batch that fails is made smaller until the job to blame is alone; after that batches grow again.
        """
        context = self._context
        while True:
            outcome = await context.decide(lease, batch, has_dead_letters=has_dead_letters)
            try:
                dead_letter = await self._write(lease, outcome)
            except _TooMany:
                return None
            if dead_letter is None:
                context.applied([lease.partition], jobs=len(outcome.jobs))
                return outcome
            # Without it, a replay that it had made stale may have to be applied.
            batch = batch.with_dead(dead_letter)

    async def _write(self, lease: Lease, outcome: Outcome) -> DeadEntry | None:
        """Write the jobs of a batch; return the dead letter of the only one if it is to blame.

        Raises `_TooMany` when fewer must be tried, and for outages what `Judge.partition` raises.
        """
        if not outcome.jobs:
            return None
        judge, jobs = self._context.judge, [job for _, job in outcome.jobs]
        entry, job = outcome.jobs[0]
        if len(jobs) == 1 and (blamed := judge.blamed(lease.partition, entry.entry_id)):
            return refused(entry, job, blamed)
        try:
            await self._context.writer.write([lease], jobs)
        except (StoreRefused, StoreUnavailable) as error:
            if await judge.partition(lease.partition, jobs, entry.entry_id, error) == "smaller":
                raise _TooMany from error
            return refused(entry, job, error)
        return None

    async def _commit(self, lease: Lease, batch: DecodedBatch, outcome: Outcome, *, apply_s: float) -> int:
        done = done_of(lease, batch, outcome)
        failpoint("before_commit")
        # Shielded: what Qdrant has confirmed must leave the stream even if this drain is cancelled now.
        left = await asyncio.shield(self._context.log.commit(done))
        failpoint("committed")
        self._context.left(done, outcome, apply_s=apply_s)
        return left
