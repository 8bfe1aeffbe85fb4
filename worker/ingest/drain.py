"""The drain: applies the entries of one partition, head first, one batch in flight.

    read ─▶ take in ─▶ plan ─▶ apply ─▶ commit ─▶ read ...

It ends when the partition is empty, when its slice of time is over, when it must stop, when an entry must be held, or
when Qdrant or Redis fail. It never raises for a job: an end is a value, and says when to ring again. An entry leaves
its stream only in a commit: after Qdrant has confirmed it, or into the dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
from arq.connections import ArqRedis

from worker.contract import Limits, WriteJob
from worker.errors import (
    ConfigurationError,
    LeaseLost,
    NotReplicated,
    QueueError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from worker.failpoints import failpoint
from worker.ingest import account
from worker.ingest.breaker import Breaker
from worker.ingest.claims import ClaimBook, Reckoning, decode_claim
from worker.ingest.gate import Gate
from worker.ingest.intake import Intake, refused, take_in
from worker.ingest.joint import JointWriter
from worker.ingest.plan import CollectionPlan, needs_existing, plan
from worker.ingest.retry import RetryPolicy
from worker.logs import log_event
from worker.metrics import DRAINS, breaker_is
from worker.queue.clock import RedisClock
from worker.queue.keys import Keys
from worker.queue.lease import Lease, release_lease, renew_lease, take_lease
from worker.queue.log import DeadEntry, Entry, JobLog
from worker.store.operations import CollectionRef
from worker.store.store import VectorStore

logger = logging.getLogger(__name__)

Ending = Literal["empty", "slice", "stopped", "busy", "held", "outage", "lost"]

HELD_DELAY_S = 2.0


class DrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain behaves. Times in seconds, sizes in jobs and bytes.

    ``settle_s`` is how long nothing is sent for a partition after a request of which nobody knows how it ended: an
    engine that is still at work on it must not finish it after what came behind.
    """

    partitions: int
    limits: Limits
    batch_max_jobs: int = 256
    batch_max_bytes: int = 4_194_304
    slice_s: float = 2.0
    lease_ttl_s: float = 8.0
    request_timeout_s: float = 5.0
    margin_s: float = 1.0
    settle_s: float = 1.0
    min_replicas: int = 0
    retry: RetryPolicy = RetryPolicy()


class DrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain ended, and when to ring again if entries wait; ``None``: somebody else will."""

    ending: Ending
    ring_after_s: float | None = 0.0
    jobs: int = 0
    dead: int = 0


class _Committed(NamedTuple):
    """What came of a batch: how many of it are dead letters, and how many entries are left behind it."""

    letters: int
    left: int


class Drainer:
    """Drains partitions of one queue into one store; one instance serves a whole process."""

    def __init__(
        self,
        redis: ArqRedis,
        keys: Keys,
        store: VectorStore,
        options: DrainOptions,
        *,
        clock: RedisClock | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._log = JobLog(redis, keys)
        self._store = store
        self._writer = JointWriter(store, most_jobs=options.batch_max_jobs)
        self._options = options
        self._clock = clock or RedisClock()
        self._stopping = stopping
        self._breaker = Breaker(options.retry)
        self._gate = Gate()
        self._failures: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}
        self._outage_seen: tuple[float, str] | None = None

    def trouble(self, *, within_s: float) -> str | None:
        """Return what Qdrant last failed a drain with, if that is no longer ago and nothing has been applied since."""
        seen = self._outage_seen
        return seen[1] if seen and time.monotonic() - seen[0] < within_s else None

    async def drain(self, partition: int, *, once: bool = False) -> DrainResult:
        """Apply what waits in ``partition``, if no other drain holds its lease and Qdrant is not known to be away.

        ``once``: one batch of it, and not for a whole slice of time.
        """
        result = await self._drain(partition, 0.0 if once else self._options.slice_s)
        DRAINS.labels(result.ending).inc()
        breaker_is(self._breaker.state)
        return result

    async def _drain(self, partition: int, slice_s: float) -> DrainResult:
        wait_s = self._breaker.wait_s()
        if wait_s > 0:
            return DrainResult(ending="outage", ring_after_s=wait_s)
        async with self._gate.enter(alone=False):
            lease = Lease(partition, self._options.lease_ttl_s)
            taken, head = await self._open(lease)
            account.lease_asked(lease if taken else None)
            if not taken:
                return DrainResult(ending="busy", ring_after_s=None)
            if not lease.is_suspect:
                return await self._drain_and_give_back(lease, head, slice_s)
        async with self._gate.enter(alone=True):
            return await self._drain_and_give_back(lease, None, slice_s)

    async def _open(self, lease: Lease) -> tuple[bool, Sequence[Entry] | None]:
        """Take the lease and, in the same round trip, read the head if it may be tried beside others."""
        failpoint("before_read")
        taken, head = await asyncio.gather(
            take_lease(self._redis, self._keys, lease, partitions=self._options.partitions), self._head(lease)
        )
        failpoint("read")
        return taken, head

    async def _head(self, lease: Lease) -> Sequence[Entry] | None:
        try:
            return await self._log.read(
                lease,
                max_jobs=self._size(lease),
                max_bytes=self._options.batch_max_bytes,
                spare_suspects=True,
            )
        except LeaseLost:  # somebody else has it, or the two did not go together
            return None

    async def _drain_and_give_back(self, lease: Lease, head: Sequence[Entry] | None, slice_s: float) -> DrainResult:
        try:
            return await self._drain_leased(lease, head, slice_s)
        except LeaseLost:
            account.lease_lost(lease.partition)
            return DrainResult(ending="lost", ring_after_s=None)
        except (StoreUnavailable, StoreRefused, ConfigurationError, NotReplicated) as error:
            return self._outage(lease, error)
        finally:
            account.lease_ended()
            await asyncio.shield(self._give_back(lease))

    async def _drain_leased(self, lease: Lease, head: Sequence[Entry] | None, slice_s: float) -> DrainResult:
        until = time.monotonic() + slice_s
        book = await self._open_book(lease)
        jobs = dead = 0
        batch = await self._read(lease) if head is None else self._take_in(lease, head)
        while batch is not None:
            if not batch.taken:
                log_event(logger, logging.WARNING, "newer_contract_held", partition=lease.partition)
                return DrainResult(ending="held", ring_after_s=HELD_DELAY_S, jobs=jobs, dead=dead)
            done, following = await self._finish(lease, batch, book)
            if done is not None:
                jobs += len(batch.taken)
                dead += done.letters
                if not done.left:
                    break
            if self._stopping():
                return DrainResult(ending="stopped", jobs=jobs, dead=dead)
            if time.monotonic() >= until:
                return DrainResult(ending="slice", jobs=jobs, dead=dead)
            batch = following or await self._read(lease)
        return DrainResult(ending="empty", jobs=jobs, dead=dead)

    async def _open_book(self, lease: Lease) -> ClaimBook:
        if not lease.has_claims:
            return ClaimBook()
        claims, superseded = await self._log.claims(lease.partition)
        return ClaimBook({letter_id: decode_claim(body) for letter_id, body in claims.items()}, superseded)

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
            left = await self._commit(lease, batch.taken, done, apply_s=time.monotonic() - started)
            book.settle(done)
            return _Committed(len(done.dead), left), await ahead if ahead and left else None
        finally:
            if ahead is not None and not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # what went wrong ahead shows again when it is read in its turn

    async def _read(self, lease: Lease, *, behind: Intake | None = None) -> Intake | None:
        options = self._options
        failpoint("before_read")
        entries = await self._log.read(
            lease,
            max_jobs=self._size(lease),
            max_bytes=options.batch_max_bytes,
            after=behind.taken[-1] if behind else None,
        )
        failpoint("read")
        return self._take_in(lease, entries)

    def _take_in(self, lease: Lease, entries: Sequence[Entry]) -> Intake | None:
        if not entries:
            return None
        options = self._options
        return take_in(entries, options.limits, partition=lease.partition, partitions=options.partitions)

    def _size(self, lease: Lease) -> int:
        return self._sizes.get(lease.partition, self._options.batch_max_jobs)

    def _is_full(self, lease: Lease, batch: Intake) -> bool:
        """Say whether more is likely to wait behind the batch: it has as many jobs, or about the bytes, it may have."""
        size_bytes = sum(len(entry.body) for entry in batch.taken)
        return len(batch.taken) >= self._size(lease) or size_bytes > self._options.batch_max_bytes // 2

    async def _apply(self, lease: Lease, batch: Intake, book: ClaimBook) -> Reckoning | None:
        """Apply the jobs of a batch; return what is to be committed, or ``None`` when fewer must be tried first.

        A batch that Qdrant refuses is halved until the job to blame stands alone; after that batches grow again.
        """
        partition = lease.partition
        reckoning = book.reckon(batch.taken, batch.jobs, batch.dead)
        try:
            if reckoning.jobs:
                await self._write(lease, [job for _, job in reckoning.jobs])
        except StoreRefused as error:
            if len(batch.jobs) > 1:
                self._shrink(partition, batch)
                return None
            return book.reckon(batch.taken, [], [*batch.dead, await self._judge(batch.jobs[0], error)])
        except StoreUnavailable as error:
            if error.code == "DEADLINE_EXCEEDED":
                self._shrink(partition, batch)  # it may have been too much for the time there is
            raise
        if reckoning.jobs:
            self._breaker.succeeded()
            self._outage_seen = None
        self._failures.pop(partition, None)
        self._grow(partition)
        return reckoning

    def _shrink(self, partition: int, batch: Intake) -> None:
        self._sizes[partition] = max(1, len(batch.taken) // 2)

    def _grow(self, partition: int) -> None:
        if partition in self._sizes:
            self._sizes[partition] *= 2
            if self._sizes[partition] >= self._options.batch_max_jobs:
                del self._sizes[partition]

    async def _commit(self, lease: Lease, taken: Sequence[Entry], done: Reckoning, *, apply_s: float) -> int:
        failpoint("before_commit")
        # Shielded: what Qdrant has confirmed must leave the stream even if this drain is cancelled now.
        left = await asyncio.shield(
            self._log.commit(
                lease, taken, done.dead, superseded=done.superseded, purged=done.purged, settled=done.settled
            )
        )
        failpoint("committed")
        account.batch_left(lease.partition, taken, done, now_ms=self._clock.now_ms(), apply_s=apply_s)
        return left

    async def _judge(self, pair: tuple[Entry, WriteJob], error: StoreRefused) -> DeadEntry:
        """Blame the job only if Qdrant takes harmless writes to the same collections; raises `StoreError` if not."""
        entry, job = pair
        for step in plan([job], await self._existing([job])):
            if await self._store.make_ready(step.ref, step.operations):
                await self._store.probe(step.ref)
        return refused(entry, job, error)

    async def _existing(self, jobs: Sequence[WriteJob]) -> Sequence[CollectionRef]:
        """Return the collections that the plan of ``jobs`` must know of."""
        return await self._store.collections.existing() if needs_existing(jobs) else ()

    async def _write(self, lease: Lease, jobs: Sequence[WriteJob]) -> None:
        if self._options.min_replicas:
            # A replica that has the renewal has all that was pushed before it: what is applied survives a failover.
            await renew_lease(self._redis, self._keys, lease, min_replicas=self._options.min_replicas)
        for step in plan(jobs, await self._existing(jobs)):
            await self._store.make_ready(step.ref, step.operations)
            failpoint("before_send")
            await self._send(lease, step)
            failpoint("sent")

    async def _send(self, lease: Lease, step: CollectionPlan) -> None:
        timeout_s = await self._deadline_s(lease)
        lease.in_doubt = True
        try:
            await self._writer.write(step, timeout_s=timeout_s)
        except StoreError as error:
            lease.in_doubt = isinstance(error, StoreUnavailable) and error.in_doubt
            raise
        lease.in_doubt = False

    async def _deadline_s(self, lease: Lease) -> float:
        """Return how long the next request may take: it must end before the lease does."""
        options = self._options
        if lease.remaining_s() < options.request_timeout_s + options.margin_s:
            await renew_lease(self._redis, self._keys, lease)
        return min(options.request_timeout_s, lease.remaining_s() - options.margin_s)

    def _outage(self, lease: Lease, error: Exception) -> DrainResult:
        partition = lease.partition
        self._failures[partition] += 1
        if not isinstance(error, NotReplicated):
            self._outage_seen = (time.monotonic(), str(error))
        delay_s = self._breaker.failed(error)
        if delay_s is None:
            delay_s = self._options.retry.delay_s(self._failures[partition])
        if lease.in_doubt:
            delay_s = max(delay_s, self._options.settle_s)
        account.outage(partition, error, failures=self._failures[partition], delay_s=delay_s)
        return DrainResult(ending="outage", ring_after_s=delay_s)

    async def _give_back(self, lease: Lease) -> None:
        if lease.is_over:
            return
        try:
            settle_s = self._options.settle_s if lease.in_doubt else 0
            await release_lease(self._redis, self._keys, lease, settle_s=settle_s)
        except QueueError as error:
            # It expires by itself.
            log_event(logger, logging.WARNING, "lease_not_released", partition=lease.partition, error=str(error))
