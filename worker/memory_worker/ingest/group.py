"""The drain of a group: partitions with few entries share their requests.

The drain takes one batch of each partition. One script takes the leases and reads, one request to Qdrant applies all
batches, one script commits them. No two batches have jobs of the same user, so their order does not matter: an
overflow stream is read only as far as the home stream has no older entries. If the request fails, each partition is
tried by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from memory_worker.contract.errors import LeaseLost, QueuePaused, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.context import (
    BUSY,
    OUTAGE_ERRORS,
    PAUSED,
    DrainContext,
    DrainResult,
    Opened,
    commit_of,
    wait_for_all,
)
from memory_worker.ingest.decoding import DecodedBatch
from memory_worker.ingest.drain import PartitionDrain
from memory_worker.ingest.outcome import Outcome
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import Head


class _Batch(NamedTuple):
    """A batch of one partition."""

    lease: Lease
    head: Head
    decoded: DecodedBatch
    outcome: Outcome


class GroupDrain:
    """Drains several partitions together. ``single`` drains a partition that must be drained by itself."""

    def __init__(self, context: DrainContext, single: PartitionDrain) -> None:
        self._context = context
        self._single = single

    async def drain(self, partitions: Sequence[int], opened: Opened) -> dict[int, DrainResult]:
        """Apply one batch of each of ``partitions``, as long as all of them fit into one batch."""
        try:
            return await self._drain_leased(partitions, opened)
        except QueuePaused:
            return dict.fromkeys(partitions, PAUSED)

    async def _drain_leased(self, partitions: Sequence[int], opened: Opened) -> dict[int, DrainResult]:
        context = self._context
        # Partitions that do not fit are woken again at once.
        results = dict.fromkeys(partitions, DrainResult(ending="slice"))
        async with (
            context.quarantine.hold(exclusive=False),
            context.leased(partitions, opened, in_quarantine=False) as found,
        ):
            results |= {lease.partition: BUSY for lease, head in found if head is None}
            given = [(lease, head) for lease, head in found if head is not None]
            results |= await self._drain(given)
        for lease, head in given:
            if head.needs_quarantine:  # nothing of it was read
                results[lease.partition] = await self._single.drain(lease.partition, opened)
        return results

    async def _drain(self, given: Sequence[tuple[Lease, Head]]) -> dict[int, DrainResult]:
        context = self._context
        results = {lease.partition: context.end_without_entries(lease) for lease, head in given if not head.entries}
        batches = await wait_for_all(self._batch(lease, head) for lease, head in given if head.entries)
        for batch in batches:
            if batch.decoded.held and not batch.decoded.entries:
                results[batch.lease.partition] = await context.end_held(batch.lease, batch.decoded.held)
        if batches := [batch for batch in batches if batch.decoded.entries]:
            results |= await self._apply_and_commit(batches)
        return results

    async def _batch(self, lease: Lease, head: Head) -> _Batch:
        decoded = self._context.decode_and_validate(lease, head.entries)
        outcome = await self._context.decide(lease, decoded, has_dead_letters=head.has_dead_letters)
        return _Batch(lease, head, decoded, outcome)

    async def _apply_and_commit(self, batches: Sequence[_Batch]) -> dict[int, DrainResult]:
        started = time.monotonic()
        try:
            with self._context.processing([(batch.lease, batch.decoded.entries) for batch in batches]):
                if await self._apply(batches):
                    return await self._commit(batches, apply_s=time.monotonic() - started)
        except OUTAGE_ERRORS as error:
            return {batch.lease.partition: self._context.end_outage(batch.lease, error) for batch in batches}
        return await self._drain_singly(batches)

    async def _apply(self, batches: Sequence[_Batch]) -> bool:
        """Apply the jobs of all batches. Return ``False`` if each partition must be tried by itself."""
        context, jobs = self._context, [job for batch in batches for _, job in batch.outcome.jobs]
        try:
            if jobs:
                await context.writer.write([batch.lease for batch in batches], jobs)
        except LeaseLost:  # one of the leases
            return False
        except (StoreRefused, StoreUnavailable) as error:
            tried = {batch.lease.partition: len(batch.outcome.jobs) for batch in batches}
            await context.judge.judge_group(tried, jobs, error)
            return False
        context.record_applied([batch.lease.partition for batch in batches], jobs=len(jobs))
        return True

    async def _drain_singly(self, batches: Sequence[_Batch]) -> dict[int, DrainResult]:
        results = await wait_for_all(self._single.drain_from(batch.lease, batch.head, 0.0) for batch in batches)
        return {batch.lease.partition: result for batch, result in zip(batches, results, strict=True)}

    async def _commit(self, batches: Sequence[_Batch], *, apply_s: float) -> dict[int, DrainResult]:
        context = self._context
        commits = [commit_of(batch.lease, batch.decoded, batch.outcome) for batch in batches]
        failpoint("before_commit")
        # Shielded: applied entries must leave the streams even if this drain is cancelled now.
        counts = await asyncio.shield(context.log.commit_all(commits, release=True))
        failpoint("committed")
        results = {}
        for batch, commit, left in zip(batches, commits, counts, strict=True):
            if left is None:
                results[batch.lease.partition] = context.end_lost(batch.lease)
                continue
            context.record_commit(commit, batch.outcome, apply_s=apply_s)
            results[batch.lease.partition] = DrainResult(
                ending="slice" if left else "empty",
                finished=True,
                jobs=len(batch.decoded.entries),
                dead=len(batch.outcome.dead),
            )
        return results
