"""The job log: one Redis stream per partition, read from the head, committed in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from arq.connections import ArqRedis

from memory_worker.contract import Receipt
from memory_worker.errors import DeadLettered, LeaseLost, NotApplied
from memory_worker.queue import scripts
from memory_worker.queue.connection import queue_errors, queue_request
from memory_worker.queue.keys import Keys
from memory_worker.queue.lease import Lease

MAX_VERSION_DIGITS = 9
LATE_REPLY_S = 2.0
MOST_CRASHES = 3
"""Processes that may die with a batch before its entries are tried one by one."""
MOST_CRASHES_ALONE = 2
"""Processes that may die with one entry alone before it is a dead letter."""

DeadReason = Literal["malformed", "invalid", "refused", "crashed", "superseded"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A job as it stands in a stream. ``version`` is the contract version, 0 where the entry names none.

    ``crashed`` says that it was tried alone, and that no process that tried it has lived to tell; ``replay_of`` is the
    id of the dead letter that it is a replay of.
    """

    entry_id: str
    version: int
    body: bytes
    crashed: bool = False
    replay_of: str = ""


class DeadEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that can never be applied, and why.

    ``op``, ``user_id`` and ``claim`` (what a replay of it would touch) are empty where they could not be read.
    """

    entry_id: str
    reason: DeadReason
    detail: str
    op: str = ""
    user_id: str = ""
    claim: bytes = b""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of ``batch``, the head of a partition: ``dead`` of it become dead letters.

    Of older dead letters, those ``superseded`` are marked, those ``purged`` forgotten, and the claims of those
    ``settled`` removed.
    """

    lease: Lease
    batch: Sequence[Entry]
    dead: Sequence[DeadEntry] = ()
    superseded: Sequence[str] = ()
    purged: Sequence[str] = ()
    settled: Sequence[str] = ()


class JobLog:
    """The entries of all partitions, for drains that hold a lease and for callers that wait for a receipt."""

    def __init__(self, redis: ArqRedis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def open(
        self,
        leases: Mapping[Lease, int],
        *,
        partitions: int,
        max_jobs: int,
        max_bytes: int,
        spare_suspects: bool = False,
    ) -> list[list[Entry] | None]:
        """Take leases, and read from the heads of their partitions; of each as many entries as it is given.

        Return for each lease what was read; ``None`` where another drain holds it. Once ``max_jobs`` or ``max_bytes``
        are read in all, those behind are left alone, and missing; the first is taken in any case, and one entry of it
        read. ``spare_suspects``: nothing of what is suspected of killing its process, which must be tried alone.

        Raises `PartitionMismatch` when the queue has another number of ``partitions``, `QueueUnavailable`.
        """
        keys = self._keys
        ttl_ms = next(iter(leases)).ttl_ms
        script_keys = [keys.meta]
        args: list[Any] = [ttl_ms, partitions, max_jobs, max_bytes]
        args += [MOST_CRASHES, MOST_CRASHES_ALONE, int(spare_suspects)]
        for lease, most in leases.items():
            number = lease.partition
            script_keys += [keys.lease(number), keys.claims(number), keys.attempts(number), keys.stream(number)]
            args += [lease.token, most]
        started = time.monotonic()
        with queue_request("open"):
            opened = await scripts.run(self._redis, "open", script_keys, args)
        heads = [_opened(lease, found, started) for lease, found in zip(leases, opened, strict=False)]
        for lease in list(leases)[len(heads) :]:
            lease.is_over = True
        return heads

    async def read(self, lease: Lease, *, max_jobs: int, max_bytes: int, after: Entry | None = None) -> list[Entry]:
        """Return entries from the head, or those behind ``after``, and renew the lease; at least one if there is any.

        Raises `LeaseLost` when the lease is no longer held, `QueueUnavailable`.
        """
        partition = lease.partition
        started = time.monotonic()
        start = f"({after.entry_id}" if after else "-"
        with queue_request("read"):
            found = await scripts.run(
                self._redis,
                "read",
                [self._keys.lease(partition), self._keys.stream(partition), self._keys.attempts(partition)],
                [lease.token, lease.ttl_ms, max_jobs, max_bytes, start, MOST_CRASHES, MOST_CRASHES_ALONE],
            )
        lease.renewed_at = started
        return _entries(found)

    async def claims(self, partition: int) -> tuple[dict[str, bytes], frozenset[str]]:
        """Return the claims of the partition's dead letters by their ids, and the ids of those superseded."""
        with queue_request("claims"):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._keys.claims(partition))
                pipe.smembers(self._keys.superseded(partition))
                claims, superseded = await pipe.execute()
        return {name.decode(): body for name, body in claims.items()}, frozenset(name.decode() for name in superseded)

    async def commit(self, done: Done) -> int:
        """Remove one batch, as `commit_all`, and go on; raises `LeaseLost` when its lease is no longer held."""
        (left,) = await self.commit_all([done])
        if left is None:
            raise LeaseLost
        return left

    async def commit_all(self, batches: Sequence[Done], *, give_back: bool = False) -> list[int | None]:
        """Remove batches from the heads of their partitions.

        Their leases are renewed or, when nothing is left or in any case, given back. Return for each partition how
        many entries are left; ``None`` where the lease is no longer held: then nothing was changed.
        """
        keys = [self._keys.backlog]
        args: list[Any] = [0 if give_back else batches[0].lease.ttl_ms]
        for done in batches:
            keys += self._committed_keys(done.lease.partition)
            args += _committed_args(done)
        started = time.monotonic()
        with queue_request("commit"):
            counts = await scripts.run(self._redis, "commit", keys, args)
        for done, left in zip(batches, counts, strict=True):
            done.lease.renewed_at = started
            done.lease.is_over = left == 0 or (give_back and left > 0)
        return [left if left >= 0 else None for left in counts]

    def _committed_keys(self, partition: int) -> list[str]:
        keys = self._keys
        return [
            *(keys.lease(partition), keys.stream(partition), keys.applied(partition), keys.dead(partition)),
            *(keys.attempts(partition), keys.claims(partition), keys.superseded(partition)),
        ]

    async def wait_applied(self, receipt: Receipt, *, timeout_s: float) -> None:
        """Return once the job of ``receipt`` has been applied; one blocking call, no polling.

        Raises `NotApplied` after ``timeout_s`` seconds, `DeadLettered` when the job can never be applied. The
        connection must allow replies to take that long.
        """
        with queue_errors():
            # A Redis that hangs must not keep the caller for ever.
            async with asyncio.timeout(timeout_s + LATE_REPLY_S):
                found, dead = await self._wait_for_mark(receipt, timeout_s)
        if not found:
            raise NotApplied(f"job {receipt} was not applied within {timeout_s:g} s; it is still queued")
        if dead:
            fields = dead[0][1]
            raise DeadLettered(str(receipt), fields[b"reason"].decode(), fields[b"detail"].decode())

    async def _wait_for_mark(self, receipt: Receipt, timeout_s: float) -> tuple[Any, Any]:
        """Return the mark at or behind the receipt, if it came in time, and the dead letter, if there is one."""
        mark = self._keys.applied(receipt.partition)
        # The mark's id is that of the last entry that left: any behind this one's predecessor will do.
        before: dict[Any, Any] = {mark: _before(receipt.entry_id)}
        found = await self._redis.xread(before, count=1, block=max(1, int(timeout_s * 1000)))
        if not found:
            return None, None
        return found, await self._redis.xrange(self._keys.dead(receipt.partition), receipt.entry_id, receipt.entry_id)


def pushed_at_s(entry_id: str) -> float:
    """Return when the entry was pushed, by Redis's clock, in unix seconds."""
    return int(entry_id.partition("-")[0]) / 1000


def entry_version(field: bytes) -> int:
    """Return the contract version in a field of an entry, 0 where it names none."""
    return int(field) if field.isdigit() and len(field) <= MAX_VERSION_DIGITS else 0


def _opened(lease: Lease, found: list[Any] | None, started: float) -> list[Entry] | None:
    if found is None:
        lease.is_over = True
        return None
    lease.renewed_at = started
    lease.has_claims, lease.is_suspect, lease.was_orphaned = map(bool, found[:3])
    return _entries(found[3:])


def _entries(flat: list[Any]) -> list[Entry]:
    """Return the entries in what a script has read: whether the head crashed, then four fields of each entry."""
    crashed = bool(flat and flat[0])
    return [
        Entry(entry_id.decode(), entry_version(version), body, crashed, replay_of.decode())
        for entry_id, version, body, replay_of in zip(flat[1::4], flat[2::4], flat[3::4], flat[4::4], strict=True)
    ]


def _committed_args(done: Done) -> list[Any]:
    last_id = done.batch[-1].entry_id
    # In the order of the entries, whatever the order in which they were found: a stream takes no other.
    letters = {letter.entry_id: letter for letter in done.dead}
    words: list[str | bytes] = []
    for letter in (letters[entry.entry_id] for entry in done.batch if entry.entry_id in letters):
        words += [letter.entry_id, letter.reason, letter.detail, letter.op, letter.user_id, letter.claim]
    size = sum(len(entry.body) for entry in done.batch)
    args = [done.lease.token, last_id, _behind(last_id), size]
    for listed in (words, done.superseded, done.purged, done.settled):
        args += [len(listed), *listed]
    return args


def _behind(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def _before(entry_id: str) -> str:
    milliseconds, sequence = map(int, entry_id.split("-"))
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}"
