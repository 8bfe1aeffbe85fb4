"""What a failed request means: too much at once, one bad job, or an outage.

Whatever the code, the jobs are tried in smaller batches first. A job is to blame only if it has failed alone while
Qdrant takes harmless writes to the same collections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from memory_worker.contract import WriteJob
from memory_worker.contract.errors import StoreRefused, StoreUnavailable
from memory_worker.ingest.outages import Outages
from memory_worker.ingest.sizes import BatchSizes
from memory_worker.ingest.writer import LeasedWriter

Verdict = Literal["smaller", "dead"]

MOST_FAILURES_ALONE = 5
"""Failures of a job alone, each beside a probe that succeeds, before it is to blame; a refusal is enough at once."""

_SHRINK_IN_DOUBT = 8
"""What is in doubt must settle before anything is tried again, so fewer tries must do."""


class Judge:
    """Judges failed requests of the drains of one process."""

    def __init__(self, writer: LeasedWriter, outages: Outages, sizes: BatchSizes) -> None:
        self._writer = writer
        self._outages = outages
        self._sizes = sizes

    async def partition(
        self, partition: int, jobs: Sequence[WriteJob], entry_id: str, error: StoreRefused | StoreUnavailable
    ) -> Verdict:
        """Say what to do about the jobs of a partition, the first of which is ``entry_id``, that failed together.

        ``smaller``: try fewer of them at once. ``dead``: the only job is to blame. Raises ``error``, or what the probe
        raised, for an outage; see `blamed` for a job that has failed too often.
        """
        if len(jobs) > 1:
            await self.group({partition: len(jobs)}, jobs, error)
            return "smaller"
        if isinstance(error, StoreUnavailable) and not self._outages.failures(partition):
            raise error
        await self._probe(jobs)
        if isinstance(error, StoreRefused):
            return "dead"
        self._outages.failed_alone(partition, entry_id, error)
        error.of_one_job = True
        raise error

    def blamed(self, partition: int, entry_id: str) -> StoreUnavailable | None:
        """Return what an entry fails with, if it has failed alone too often: it is dead, and must not be sent again.

        It is asked for when the entry's turn has come again, because what was sent last must have settled by then.
        """
        times, error = self._outages.failures_alone(partition, entry_id)
        return error if times >= MOST_FAILURES_ALONE else None

    async def group(
        self, tried: Mapping[int, int], jobs: Sequence[WriteJob], error: StoreRefused | StoreUnavailable
    ) -> None:
        """Return if each partition of ``tried``, with so many jobs, is to be tried by itself; raises as `partition`."""
        in_doubt = isinstance(error, StoreUnavailable) and error.in_doubt
        for partition, count in tried.items():
            self._sizes.shrink(partition, count, by=_SHRINK_IN_DOUBT if in_doubt else 2)
        if in_doubt:
            raise error
        await self._probe(jobs)

    async def _probe(self, jobs: Sequence[WriteJob]) -> None:
        """Return if Qdrant takes writes to the collections of ``jobs``; then the drains of others go ahead, too."""
        await self._writer.probe(jobs)
        self._outages.applied()
