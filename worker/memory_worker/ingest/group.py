"""The drain of a group: what is small by itself costs little together.

Partitions in which little waits are drained in step, one batch of each: one script takes their leases and reads them,
one request applies what they come to, one script commits them. Different partitions hold jobs of different users, so
that they may be done in any order. What fails together is tried apart, each partition by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from memory_worker.contract.errors import LeaseLost, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.context import BUSY, OUTAGES, DrainContext, DrainResult, all_of, done_of
from memory_worker.ingest.decoding import DecodedBatch
from memory_worker.ingest.drain import PartitionDrain
from memory_worker.ingest.outcome import Outcome
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import Head

Opened = tuple[Lease, Head]


class _Batch(NamedTuple):
    """A batch of one of the partitions, as it was read and as it is to be applied."""

    lease: Lease
    head: Head
    decoded: DecodedBatch
    outcome: Outcome


class GroupDrain:
    """Drains several partitions in step; one that must be drained by itself is left to ``apart``."""

    def __init__(self, context: DrainContext, apart: PartitionDrain) -> None:
        self._context = context
        self._apart = apart

    async def drain(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        """Apply a batch of what waits in each of ``partitions``, as far as it fits into one batch together."""
        context = self._context
        # Those that no room was left for are rung for again at once.
        results = dict.fromkeys(partitions, DrainResult(ending="slice"))
        async with context.quarantine.enter(alone=False), context.leased(partitions, alone=False) as opened:
            results |= {lease.partition: BUSY for lease, head in opened if head is None}
            taken = [(lease, head) for lease, head in opened if head is not None]
            results |= await self._drain(taken)
        # Nothing of a suspect was read: it must be tried alone.
        for lease, head in taken:
            if head.needs_quarantine:
                results[lease.partition] = await self._apart.drain(lease.partition)
        return results

    async def _drain(self, opened: Sequence[Opened]) -> dict[int, DrainResult]:
        results = {lease.partition: DrainResult(ending="empty") for lease, _ in opened}
        batches = await all_of(self._batch(lease, head) for lease, head in opened if head.entries)
        for batch in batches:
            if not batch.decoded.taken:
                results[batch.lease.partition] = self._context.held(batch.lease)
        if batches := [batch for batch in batches if batch.decoded.taken]:
            results |= await self._finish(batches)
        return results

    async def _batch(self, lease: Lease, head: Head) -> _Batch:
        decoded = self._context.decode_and_validate(lease, head.entries)
        outcome = await self._context.decide(lease, decoded, has_dead_letters=head.has_dead_letters)
        return _Batch(lease, head, decoded, outcome)

    async def _finish(self, batches: Sequence[_Batch]) -> dict[int, DrainResult]:
        started = time.monotonic()
        try:
            together = await self._apply(batches)
        except OUTAGES as error:
            return {batch.lease.partition: self._context.failed(batch.lease, error) for batch in batches}
        if not together:
            return await self._each(batches)
        return await self._commit(batches, apply_s=time.monotonic() - started)

    async def _apply(self, batches: Sequence[_Batch]) -> bool:
        """Apply the jobs of all batches; ``False``: each must be tried by itself."""
        context, jobs = self._context, [job for batch in batches for _, job in batch.outcome.jobs]
        try:
            if jobs:
                await context.writer.write([batch.lease for batch in batches], jobs)
        except LeaseLost:  # of one of them
            return False
        except (StoreRefused, StoreUnavailable) as error:
            tried = {batch.lease.partition: len(batch.outcome.jobs) for batch in batches}
            await context.judge.group(tried, jobs, error)
            return False
        context.applied([batch.lease.partition for batch in batches], jobs=len(jobs))
        return True

    async def _each(self, batches: Sequence[_Batch]) -> dict[int, DrainResult]:
        ends = await all_of(self._apart.go_on(batch.lease, batch.head, 0.0) for batch in batches)
        return {batch.lease.partition: end for batch, end in zip(batches, ends, strict=True)}

    async def _commit(self, batches: Sequence[_Batch], *, apply_s: float) -> dict[int, DrainResult]:
        context = self._context
        dones = [done_of(batch.lease, batch.decoded, batch.outcome) for batch in batches]
        failpoint("before_commit")
        # Shielded: what Qdrant has confirmed must leave the streams even if this drain is cancelled now.
        counts = await asyncio.shield(context.log.commit_all(dones, release=True))
        failpoint("committed")
        results = {}
        for batch, done, left in zip(batches, dones, counts, strict=True):
            if left is None:
                results[batch.lease.partition] = context.lost(batch.lease)
                continue
            context.left(done, batch.outcome, apply_s=apply_s)
            results[batch.lease.partition] = DrainResult(
                ending="slice" if left else "empty", jobs=len(batch.decoded.taken), dead=len(batch.outcome.dead)
            )
        return results
