"""What the drains of a process share, and the steps that all of them take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import ConfigurationError, NotReplicated, QueueError, StoreRefused, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest import record
from memory_worker.ingest.decoding import DecodedBatch, decode_and_validate
from memory_worker.ingest.judge import Judge
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.outages import Outages
from memory_worker.ingest.outcome import Outcome, decide, touching
from memory_worker.ingest.quarantine import Quarantine
from memory_worker.ingest.sizes import BatchSizes
from memory_worker.ingest.writer import LeasedWriter
from memory_worker.queue.drain_jobs import NO_WAKEUP, WakeAfter
from memory_worker.queue.lease import Lease, LeaseState, release_lease
from memory_worker.queue.log import BatchCommit, Entry, Head, JobLog, ReadOptions
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Ending = Literal["empty", "slice", "stopped", "busy", "held", "outage", "lost"]

HELD_DELAY_S = 2.0

READABLE_BYTES = 1_048_576
"""A job is read up to this size, or up to the limit of jobs: what its replay would undo is known only of such."""

OUTAGES = (StoreUnavailable, StoreRefused, ConfigurationError, NotReplicated)
"""What keeps a batch from being applied, and no job is to blame for."""


class DrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain ended, and when to ring again if entries wait; ``None``: somebody else will."""

    ending: Ending
    wake_after_s: WakeAfter = 0.0
    jobs: int = 0
    dead: int = 0


BUSY = DrainResult(ending="busy", wake_after_s=NO_WAKEUP)


class DrainContext:
    """The parts that drains of one queue and one store are made of; ``process`` is the id of this process."""

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
        self.quarantine = Quarantine()
        self.writer = LeasedWriter(redis, keys, store, options)
        self.outages = Outages(options.retry, settle_s=options.settle_s)
        self.sizes = BatchSizes(options.batch_max_jobs)
        self.judge = Judge(self.writer, self.outages, self.sizes)
        reading = ReadOptions(
            process=process,
            process_ttl_ms=int(options.lease_ttl_s * 1000),
            max_job_bytes=max(options.limits.max_job_bytes, READABLE_BYTES),
            process_prefix=keys.process_prefix,
        )
        self.log = JobLog(redis, keys, reading)
        self._process = process
        self._redis = redis
        self._keys = keys
        self._clock = clock

    @asynccontextmanager
    async def leased(
        self, partitions: Sequence[int], *, alone: bool
    ) -> AsyncIterator[Sequence[tuple[Lease, Head | None]]]:
        """Take the leases of partitions and read their heads, as `JobLog.open`; give the leases back at the end.

        ``alone``: nothing else is tried meanwhile, so that suspects may be.
        """
        leases = [Lease(partition, self.options.lease_ttl_s) for partition in partitions]
        given: list[tuple[Lease, Head]] = []
        try:
            asked = list(zip(leases, await self._open(leases, alone=alone), strict=False))
            given = [(lease, head) for lease, head in asked if head is not None]
            record.leases_asked(given, busy=len(asked) - len(given))
            yield asked
        finally:
            record.leases_ended(len(given))
            # Also of those asked for in vain: the answer may be lost, and not the question.
            await asyncio.shield(asyncio.gather(*map(self._give_back, leases)))

    async def _open(self, leases: Sequence[Lease], *, alone: bool) -> list[Head | None]:
        options = self.options
        failpoint("before_read")
        heads = await self.log.open(
            {lease: self.sizes.of(lease.partition) for lease in leases},
            partitions=options.partitions,
            max_jobs=options.batch_max_jobs,
            max_bytes=options.batch_max_bytes,
            skip_quarantined=not alone,
        )
        failpoint("read")
        return heads

    async def _give_back(self, lease: Lease) -> None:
        if lease.state is LeaseState.ENDED:
            return
        try:
            await release_lease(self._redis, self._keys, lease, process=self._process, settle_s=self.options.settle_s)
        except QueueError as error:
            # It expires by itself.
            log_event(logger, logging.WARNING, "lease_not_released", partition=lease.partition, error=str(error))

    def decode_and_validate(self, lease: Lease, entries: Sequence[Entry]) -> DecodedBatch:
        """Return entries of the leased partition as a batch."""
        return decode_and_validate(
            entries, self.options.limits, partition=lease.partition, partitions=self.options.partitions
        )

    async def decide(self, lease: Lease, batch: DecodedBatch, *, has_dead_letters: bool) -> Outcome:
        """Return what comes of a batch; ``has_letters``: some user of the partition has dead letters."""
        guards = await self.log.guards(lease.partition, touching(batch)) if has_dead_letters else {}
        return decide(batch, guards)

    def held(self, lease: Lease, *, jobs: int = 0, dead: int = 0) -> DrainResult:
        """Return the end of a drain that has come to an entry which only a newer worker knows."""
        log_event(logger, logging.WARNING, "newer_contract_held", partition=lease.partition)
        return DrainResult(ending="held", wake_after_s=HELD_DELAY_S, jobs=jobs, dead=dead)

    def lost(self, lease: Lease) -> DrainResult:
        """Return the end of a drain whose lease is held no longer."""
        record.lease_lost(lease.partition)
        return DrainResult(ending="lost", wake_after_s=NO_WAKEUP)

    def failed(self, lease: Lease, error: Exception) -> DrainResult:
        """Return the end of a drain that could not apply its batch, with no job to blame."""
        return DrainResult(ending="outage", wake_after_s=self.outages.failed(lease, error))

    def applied(self, partitions: Iterable[int], *, jobs: int) -> None:
        """So many jobs of batches of these partitions were applied, and nothing of them is left to apply."""
        if jobs:
            self.outages.applied()
        for partition in partitions:
            self.outages.over(partition)
            self.sizes.grow(partition)

    def left(self, done: BatchCommit, outcome: Outcome, *, apply_s: float) -> None:
        """Account for a batch that has left its stream."""
        record.batch_left(done.lease.partition, done.batch, outcome, now_ms=self._clock.now_ms(), apply_s=apply_s)


async def all_of(works: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Return the results of several works once all of them have ended, whatever one of them raises.

    A lease ends only after every request under it has: nothing may be left at work when its drain is over.
    """
    ends = await asyncio.gather(*works, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return cast("list[_Result]", ends)


def done_of(lease: Lease, batch: DecodedBatch, outcome: Outcome) -> BatchCommit:
    """Return what is to be committed of a batch whose jobs were applied."""
    return BatchCommit(lease=lease, batch=batch.taken, dead=outcome.dead, guards=outcome.guards, purged=outcome.gone)
