"""The parts that all drains of a process share, and the steps that all drains take."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Literal, TypeAlias, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import WriteJob
from memory_worker.contract.errors import ConfigurationError, NotReplicated, QueueError, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest import record
from memory_worker.ingest.decoding import DecodedBatch, decode_and_validate
from memory_worker.ingest.judge import Judge
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.outages import Outages
from memory_worker.ingest.outcome import Outcome, decide, decoded_jobs
from memory_worker.ingest.quarantine import QuarantineLock
from memory_worker.ingest.request_gate import RequestGate
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.ingest.sizes import BatchSizes
from memory_worker.ingest.writer import LeasedWriter
from memory_worker.queue.drain_jobs import NO_WAKEUP, OpenOptions, WakeAfter
from memory_worker.queue.held import Held, record_held
from memory_worker.queue.lease import Lease, LeaseState, release_lease
from memory_worker.queue.log import BatchCommit, Entry, Head, JobLog, ReadOptions
from memory_worker.queue.read_activity import ReadActivity
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.logs import log_event
from memory_worker.tracing import processing
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import is_overflow

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Opened: TypeAlias = Mapping[int, tuple[Lease, Head | None]]
"""Partitions that were opened when they were claimed. The head is ``None`` if another drain holds the lease."""

Ending = Literal["empty", "slice", "stopped", "busy", "behind", "held", "outage", "lost", "paused"]

HELD_DELAY_S = 2.0
"""How long a partition waits whose next entry needs another worker."""

_BEHIND_DELAYS = RetryPolicy(base_s=0.05, max_s=1.0)
"""How long an overflow stream waits for older entries of the home stream."""

_ALWAYS_READ_BYTES = 1_048_576
"""Jobs up to this size are read even if the limit is lower, because the replay guard can only guard what was read."""

OUTAGE_ERRORS = (StoreUnavailable, StoreRefused, ConfigurationError, NotReplicated)
"""The errors that keep a batch from being applied if no job is to blame."""


class DrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a drain.

    If entries still wait, a worker is woken for the partition after ``wake_after_s`` seconds. With `NO_WAKEUP` none is
    woken now: the drain that holds the lease will wake one, or a rescue if there is no such drain. If ``finished``, the
    last commit has ended the drain job, too, so nothing is left to do.
    """

    ending: Ending
    wake_after_s: WakeAfter = 0.0
    finished: bool = False
    jobs: int = 0
    dead: int = 0


BUSY = DrainResult(ending="busy", wake_after_s=NO_WAKEUP)
PAUSED = DrainResult(ending="paused")
"""The drain job is queued again at once, and is claimed when the queue is resumed."""


class DrainContext:
    """The shared parts of all drains of one queue into one store. ``process`` is the id of this process."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        options: DrainOptions,
        *,
        process: str,
        clock: RedisClock,
        stopping: Callable[[], bool],
    ) -> None:
        self.options = options
        self.stopping = stopping
        self.quarantine = QuarantineLock()
        gate = RequestGate(options.read_priority_requests, ReadActivity(redis, keys).is_active)
        self.writer = LeasedWriter(redis, keys, store, options, gate)
        self.outages = Outages(options.retry, settle_s=options.settle_s)
        self.sizes = BatchSizes(options.batch_max_jobs)
        self.judge = Judge(self.writer, self.outages, self.sizes)
        self._reading = ReadOptions(
            process=process,
            process_ttl_ms=int(options.lease_ttl_s * 1000),
            max_job_bytes=max(options.limits.max_job_bytes, _ALWAYS_READ_BYTES),
            process_prefix=keys.process_prefix,
            partitions=options.partitions,
        )
        self.log = JobLog(redis, keys, self._reading, outcomes_max=options.outcomes_max)
        self._behind: Counter[int] = Counter()
        self._process = process
        self._redis = redis
        self._keys = keys
        self._clock = clock

    def opening(self) -> OpenOptions | None:
        """Return how to open partitions when they are claimed; ``None`` if their drains must open them.

        After a failure a drain may wait, or read less. While a batch is in quarantine, nothing else is tried.
        """
        if self.outages.has_failures or self.sizes.any_shrunk or self.quarantine.is_exclusive:
            return None
        options = self.options
        return OpenOptions(self._reading, options.lease_ttl_s, options.batch_max_bytes)

    @asynccontextmanager
    async def holding(self, opened: Sequence[tuple[Lease, Head | None]]) -> AsyncIterator[Opened]:
        """Yield partitions that were opened when they were claimed, and release at the end what is left of them.

        If they may not be drained now, they are released first.
        """
        leases = [lease for lease, _ in opened]
        try:
            if self.opening() is None:
                await self._release_all(leases)
                opened = ()
            yield {lease.partition: (lease, head) for lease, head in opened}
        finally:
            await self._release_all(leases)

    @asynccontextmanager
    async def leased(
        self, partitions: Sequence[int], opened: Opened, *, in_quarantine: bool
    ) -> AsyncIterator[Sequence[tuple[Lease, Head | None]]]:
        """Open partitions as `JobLog.open` unless they are ``opened``. Release their leases at the end.

        Partitions that need quarantine are read only if ``in_quarantine``. Then nothing else runs in this process.
        """
        kept = [opened[partition] for partition in partitions if partition in opened]
        if any(head is not None and lease.state is LeaseState.ENDED for lease, head in kept):  # used before
            kept = []
        leases = [lease for lease, _ in kept] or [Lease(number, self.options.lease_ttl_s) for number in partitions]
        given: list[tuple[Lease, Head]] = []
        try:
            found = kept or list(zip(leases, await self._open(leases, in_quarantine=in_quarantine), strict=False))
            given = [(lease, head) for lease, head in found if head is not None]
            record.leases_requested(given, busy=len(found) - len(given))
            yield found
        finally:
            record.leases_released(len(given))
            # Release all of them: Redis may have given a lease even if its reply was lost.
            await self._release_all(leases)

    async def _open(self, leases: Sequence[Lease], *, in_quarantine: bool) -> list[Head | None]:
        options = self.options
        failpoint("before_read")
        heads = await self.log.open(
            {lease: self.sizes.of(lease.partition) for lease in leases},
            partitions=options.partitions,
            max_jobs=options.batch_max_jobs,
            max_bytes=options.batch_max_bytes,
            skip_quarantined=not in_quarantine,
        )
        failpoint("read")
        return heads

    async def _release_all(self, leases: Iterable[Lease]) -> None:
        await asyncio.shield(asyncio.gather(*map(self._release, leases)))

    async def _release(self, lease: Lease) -> None:
        if lease.state is LeaseState.ENDED:
            return
        try:
            await release_lease(self._redis, self._keys, lease, process=self._process, settle_s=self.options.settle_s)
        except QueueError as error:
            # The lease expires by itself.
            log_event(logger, logging.WARNING, "lease_not_released", partition=lease.partition, error=str(error))

    def processing(self, batches: Sequence[tuple[Lease, Sequence[Entry]]]) -> AbstractContextManager[object]:
        """Trace the processing of the batches of some partitions, from the first request to Qdrant to the commit."""
        return processing(
            self._keys.prefix,
            (entry.trace for _, entries in batches for entry in entries),
            partitions=(lease.partition for lease, _ in batches),
            receipts=(f"{lease.partition}/{entry.entry_id}" for lease, entries in batches for entry in entries),
        )

    def decode_and_validate(self, lease: Lease, entries: Sequence[Entry]) -> DecodedBatch:
        """Return entries of the leased partition as a batch."""
        return decode_and_validate(
            entries, self.options.limits, partition=lease.partition, partitions=self.options.partitions
        )

    async def decide(self, lease: Lease, batch: DecodedBatch, *, has_dead_letters: bool) -> Outcome:
        """Return the outcome of a batch. ``has_dead_letters`` says whether the partition has any."""
        guards = await self.log.guards(lease, decoded_jobs(batch)) if has_dead_letters else {}
        return decide(batch, guards)

    def slice_s(self, partition: int) -> float:
        """Return the time slice of a drain. That of an overflow stream is short, so that other partitions go first."""
        options = self.options
        most_s = options.overflow_slice_s if is_overflow(partition, options.partitions) else options.slice_s
        return min(most_s, options.slice_s)

    def end_without_entries(self, lease: Lease, *, jobs: int = 0, dead: int = 0) -> DrainResult:
        """Return the result of a drain that could read no more entries.

        An overflow stream may have some, which must wait until the home stream has no older ones.
        """
        if not is_overflow(lease.partition, self.options.partitions):
            return DrainResult(ending="empty", jobs=jobs, dead=dead)
        self._behind[lease.partition] += 1
        delay_s = _BEHIND_DELAYS.delay_s(self._behind[lease.partition])
        return DrainResult(ending="behind", wake_after_s=delay_s, jobs=jobs, dead=dead)

    async def end_held(self, lease: Lease, held: Held, *, jobs: int = 0, dead: int = 0) -> DrainResult:
        """Record why the partition is held, and return the result of the drain. Another worker can apply the entry."""
        await record_held(self._redis, self._keys, lease.partition, held)
        log_event(logger, logging.WARNING, "partition_held", partition=lease.partition, needs=held.needs)
        return DrainResult(ending="held", wake_after_s=HELD_DELAY_S, jobs=jobs, dead=dead)

    def end_lost(self, lease: Lease) -> DrainResult:
        """Return the result of a drain that lost its lease."""
        record.lease_lost(lease.partition)
        return DrainResult(ending="lost", wake_after_s=NO_WAKEUP)

    def end_outage(self, lease: Lease, error: Exception) -> DrainResult:
        """Return the result of a drain that could not apply its batch, although no job is to blame."""
        return DrainResult(ending="outage", wake_after_s=self.outages.record_outage(lease, error))

    def record_applied(self, partitions: Iterable[int], *, jobs: int) -> None:
        """Record that the batches of these partitions were applied. They had ``jobs`` jobs together."""
        if jobs:
            self.outages.record_success()
        for partition in partitions:
            self.outages.clear(partition)
            self.sizes.grow(partition)
            self._behind.pop(partition, None)

    def record_commit(self, commit: BatchCommit, outcome: Outcome, *, apply_s: float) -> None:
        """Record that a batch was committed and has left its stream."""
        record.batch_committed(
            commit.lease.partition, commit.batch, outcome, now_ms=self._clock.now_ms(), apply_s=apply_s
        )


async def wait_for_all(works: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Return the results of several works. If any of them fails, raise its error once all have ended.

    A lease may be released only after all requests under it have ended. So no work may continue after its drain.
    """
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[_Result]", results)


def commit_of(lease: Lease, batch: DecodedBatch, outcome: Outcome) -> BatchCommit:
    """Return the commit of a batch whose jobs were applied."""
    return BatchCommit(
        lease=lease,
        batch=batch.entries,
        dead=outcome.dead,
        applied=_reported(outcome.jobs),
        dropped=_reported(outcome.dropped),
        guards=outcome.guards,
        purged=outcome.purged,
    )


def _reported(jobs: Iterable[tuple[Entry, WriteJob]]) -> list[tuple[Entry, WriteJob]]:
    """Return the jobs whose outcome is reported although they are no dead letters.

    Those are the jobs with ``notify``, and replays, because it was reported that they had died.
    """
    return [(entry, job) for entry, job in jobs if job.notify or entry.replay_of]
