"""Decides what a failed request means: the batch was too large, one job is bad, or there is an outage.

After any error the jobs are tried in smaller batches first. A job is to blame only if it failed as the only one of its
batch while Qdrant accepted harmless writes to the same collections.
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

MAX_SINGLE_FAILURES = 5
"""The only job of a batch is to blame after this many failures with a successful probe, or after one refusal."""

_SHRINK_IN_DOUBT = 8
"""Shrink faster if the outcome is in doubt, because then a pause follows each try."""


class Judge:
    """Judges the failed requests of one process."""

    def __init__(self, writer: LeasedWriter, outages: Outages, sizes: BatchSizes) -> None:
        self._writer = writer
        self._outages = outages
        self._sizes = sizes

    async def judge_batch(
        self, partition: int, jobs: Sequence[WriteJob], entry_id: str, error: StoreRefused | StoreUnavailable
    ) -> Verdict:
        """Judge a batch of one partition that failed with ``error``. ``entry_id`` is its first entry.

        Return ``smaller`` if fewer jobs must be tried at once, or ``dead`` if the only job is to blame. Raises
        ``error``, or the error of the probe, for an outage. See also `poison_error`.
        """
        if len(jobs) > 1:
            await self.judge_group({partition: len(jobs)}, jobs, error)
            return "smaller"
        if isinstance(error, StoreUnavailable) and not self._outages.failures(partition):
            raise error
        await self._probe(jobs)
        if isinstance(error, StoreRefused):
            return "dead"
        self._outages.record_single_failure(partition, entry_id, error)
        error.of_one_job = True
        raise error

    def poison_error(self, partition: int, entry_id: str) -> StoreUnavailable | None:
        """Return the last error of an entry that failed too often as the only one of its batch; otherwise ``None``.

        Such an entry is dead and must not be sent again. Ask when the entry is read again. By then its last request
        can no longer be applied.
        """
        times, error = self._outages.single_failures(partition, entry_id)
        return error if times >= MAX_SINGLE_FAILURES else None

    async def judge_group(
        self, tried: Mapping[int, int], jobs: Sequence[WriteJob], error: StoreRefused | StoreUnavailable
    ) -> None:
        """Judge a request for several partitions that failed. ``tried`` is the number of jobs of each partition.

        Return if each partition must be tried by itself. Raises as `judge_batch`.
        """
        in_doubt = isinstance(error, StoreUnavailable) and error.in_doubt
        for partition, count in tried.items():
            self._sizes.shrink(partition, count, by=_SHRINK_IN_DOUBT if in_doubt else 2)
        if in_doubt:
            raise error
        await self._probe(jobs)

    async def _probe(self, jobs: Sequence[WriteJob]) -> None:
        """Return if Qdrant accepts writes to the collections of ``jobs``. Then other drains may run, too."""
        await self._writer.probe(jobs)
        self._outages.record_success()
