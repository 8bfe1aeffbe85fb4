"""The drain: applies the entries of one partition, head first, one batch in flight.

    read ─▶ take in ─▶ plan ─▶ apply ─▶ commit ─▶ read ...

It ends when the partition is empty, when its slice of time is over, when it must stop, when an entry must be held, or
when Qdrant or Redis fail. It never raises for a job: an end is a value, and says when to ring again. An entry leaves
its stream only in a commit: after Qdrant has confirmed it, or into the dead letters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from memory_worker.contract import WriteJob
from memory_worker.errors import LeaseLost, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.claims import ClaimBook, Reckoning
from memory_worker.ingest.context import BUSY, OUTAGES, DrainContext, DrainResult, done_of
from memory_worker.ingest.intake import Intake, refused
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import DeadEntry, Entry


class _Committed(NamedTuple):
    """What came of a batch: how many of it are dead letters, and how many entries are left behind it."""

    letters: int
    left: int


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
        async with context.gate.enter(alone=alone), context.leased([partition], alone=alone) as ((lease, head),):
            if head is None:
                return BUSY
            if lease.is_suspect and not alone:
                return None
            return await self.go_on(lease, head, context.options.slice_s)

    async def go_on(self, lease: Lease, head: Sequence[Entry], slice_s: float) -> DrainResult:
        """Apply ``head``, which has been read, and what follows it for ``slice_s`` seconds; 0: nothing."""
        try:
            return await self._drain(lease, head, slice_s)
        except LeaseLost:
            return self._context.lost(lease)
        except OUTAGES as error:
            return self._context.failed(lease, error)

    async def _drain(self, lease: Lease, head: Sequence[Entry], slice_s: float) -> DrainResult:
        context, until = self._context, time.monotonic() + slice_s
        book = await context.book(lease)
        jobs = dead = 0
        batch = context.take_in(lease, head) if head else None
        while batch is not None:
            if not batch.taken:
                return context.held(lease, jobs=jobs, dead=dead)
            done, following = await self._finish(lease, batch, book)
            if done is not None:
                jobs += len(batch.taken)
                dead += done.letters
                if not done.left:
                    break
            if context.stopping():
                return DrainResult(ending="stopped", jobs=jobs, dead=dead)
            if time.monotonic() >= until:
                return DrainResult(ending="slice", jobs=jobs, dead=dead)
            batch = following or await self._read(lease)
        return DrainResult(ending="empty", jobs=jobs, dead=dead)

    async def _finish(self, lease: Lease, batch: Intake, book: ClaimBook) -> tuple[_Committed | None, Intake | None]:
        """Apply and commit a batch, reading ahead meanwhile if it was a full one.

        Return what came of it (``None``: smaller batches must be tried first), and the batch behind it if it is known.
        """
        ahead = asyncio.create_task(self._read(lease, behind=batch)) if self._is_full(lease, batch) else None
        try:
            started = time.monotonic()
            done = await self._apply(lease, batch, book)
            if done is None:
                return None, None
            left = await self._commit(lease, batch, done, apply_s=time.monotonic() - started)
            book.settle(done)
            return _Committed(len(done.dead), left), await ahead if ahead and left else None
        finally:
            if ahead is not None and not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # what went wrong ahead shows again when it is read in its turn

    async def _read(self, lease: Lease, *, behind: Intake | None = None) -> Intake | None:
        context = self._context
        failpoint("before_read")
        entries = await context.log.read(
            lease,
            max_jobs=context.sizes.of(lease.partition),
            max_bytes=context.options.batch_max_bytes,
            after=behind.taken[-1] if behind else None,
        )
        failpoint("read")
        return context.take_in(lease, entries) if entries else None

    def _is_full(self, lease: Lease, batch: Intake) -> bool:
        """Say whether more is likely to wait behind the batch: it has as many jobs, or about the bytes, it may have."""
        context = self._context
        size_bytes = sum(len(entry.body) for entry in batch.taken)
        full = context.sizes.of(lease.partition)
        return len(batch.taken) >= full or size_bytes > context.options.batch_max_bytes // 2

    async def _apply(self, lease: Lease, batch: Intake, book: ClaimBook) -> Reckoning | None:
        """Apply the jobs of a batch; return what is to be committed, or ``None`` when fewer must be tried first.

        A batch that Qdrant refuses is halved until the job to blame stands alone; after that batches grow again.
        """
        context, partition = self._context, lease.partition
        reckoning = book.reckon(batch.taken, batch.jobs, batch.dead)
        try:
            if reckoning.jobs:
                await context.writer.write([lease], [job for _, job in reckoning.jobs])
        except StoreRefused as error:
            if len(batch.jobs) > 1:
                context.sizes.shrink(partition, len(batch.taken))
                return None
            return book.reckon(batch.taken, [], [*batch.dead, await self._judge(batch.jobs[0], error)])
        except StoreUnavailable as error:
            context.unavailable(error, {partition: len(batch.taken)})
            raise
        context.applied([partition], jobs=len(reckoning.jobs))
        return reckoning

    async def _judge(self, pair: tuple[Entry, WriteJob], error: StoreRefused) -> DeadEntry:
        """Blame the job only if Qdrant takes harmless writes to the same collections; raises `StoreError` if not."""
        entry, job = pair
        await self._context.writer.probe(job)
        return refused(entry, job, error)

    async def _commit(self, lease: Lease, batch: Intake, reckoning: Reckoning, *, apply_s: float) -> int:
        done = done_of(lease, batch, reckoning)
        failpoint("before_commit")
        # Shielded: what Qdrant has confirmed must leave the stream even if this drain is cancelled now.
        left = await asyncio.shield(self._context.log.commit(done))
        failpoint("committed")
        self._context.left(done, reckoning, apply_s=apply_s)
        return left
