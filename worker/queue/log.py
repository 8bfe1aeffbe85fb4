"""The job log: one Redis stream per partition, read from the head, committed in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from arq.connections import ArqRedis

from worker.contract import Receipt
from worker.errors import DeadLettered, NotApplied
from worker.queue import scripts
from worker.queue.connection import queue_errors, queue_request
from worker.queue.keys import Keys
from worker.queue.lease import MOST_CRASHES, Lease

MAX_VERSION_DIGITS = 9
LATE_REPLY_S = 2.0
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


class JobLog:
    """The entries of all partitions, for drains that hold a lease and for callers that wait for a receipt."""

    def __init__(self, redis: ArqRedis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(
        self,
        lease: Lease,
        *,
        max_jobs: int,
        max_bytes: int,
        after: Entry | None = None,
        spare_suspects: bool = False,
    ) -> list[Entry]:
        """Return entries from the head, or those behind ``after``, and renew the lease; at least one if there is any.

        ``spare_suspects``: none of what is suspected of killing its process, which must be tried alone. Raises
        `LeaseLost` when the lease is no longer held, `QueueUnavailable`.
        """
        partition = lease.partition
        started = time.monotonic()
        with queue_request("read"):
            flat = await scripts.run(
                self._redis,
                "read",
                [self._keys.lease(partition), self._keys.stream(partition), self._keys.attempts(partition)],
                [
                    *(lease.token, lease.ttl_ms, max_jobs, max_bytes),
                    *(f"({after.entry_id}" if after else "-", MOST_CRASHES, MOST_CRASHES_ALONE, int(spare_suspects)),
                ],
            )
        lease.renewed_at = started
        crashed, rows = bool(flat[0]), zip(flat[1::4], flat[2::4], flat[3::4], flat[4::4], strict=True)
        return [
            Entry(entry_id.decode(), entry_version(version), body, crashed, replay_of.decode())
            for entry_id, version, body, replay_of in rows
        ]

    async def claims(self, partition: int) -> tuple[dict[str, bytes], frozenset[str]]:
        """Return the claims of the partition's dead letters by their ids, and the ids of those superseded."""
        with queue_request("claims"):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._keys.claims(partition))
                pipe.smembers(self._keys.superseded(partition))
                claims, superseded = await pipe.execute()
        return {name.decode(): body for name, body in claims.items()}, frozenset(name.decode() for name in superseded)

    async def commit(
        self,
        lease: Lease,
        batch: Sequence[Entry],
        dead: Sequence[DeadEntry] = (),
        *,
        superseded: Sequence[str] = (),
        purged: Sequence[str] = (),
        settled: Sequence[str] = (),
    ) -> int:
        """Remove ``batch``, the head of the partition, moving ``dead`` of it to the dead letters.

        The lease is renewed or, when nothing is left, given back. Of older dead letters, those ``superseded`` are
        marked, those ``purged`` forgotten, and the claims of those ``settled`` removed. Return how many entries are
        left; raises `LeaseLost` when the lease is no longer held: then nothing was changed.
        """
        partition, last_id = lease.partition, batch[-1].entry_id
        args: list[Any] = [lease.token, lease.ttl_ms, last_id, _behind(last_id)]
        args += [sum(len(entry.body) for entry in batch)]
        # In the order of the entries, whatever the order in which they were found: a stream takes no other.
        letters = {letter.entry_id: letter for letter in dead}
        letter_args: list[str | bytes] = []
        for letter in (letters[entry.entry_id] for entry in batch if entry.entry_id in letters):
            letter_args += [letter.entry_id, letter.reason, letter.detail, letter.op, letter.user_id, letter.claim]
        args += [len(letter_args), *letter_args, len(superseded), *superseded, len(purged), *purged, *settled]
        keys = self._keys
        started = time.monotonic()
        with queue_request("commit"):
            left = await scripts.run(
                self._redis,
                "commit",
                [
                    keys.lease(partition),
                    keys.stream(partition),
                    keys.applied(partition),
                    keys.dead(partition),
                    keys.backlog,
                    keys.attempts(partition),
                    keys.claims(partition),
                    keys.superseded(partition),
                ],
                args,
            )
        lease.renewed_at, lease.is_over = started, left == 0
        return int(left)

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


def _behind(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def _before(entry_id: str) -> str:
    milliseconds, sequence = map(int, entry_id.split("-"))
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}"
