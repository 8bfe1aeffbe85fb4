"""The job log: one Redis stream per partition, read from the head, committed in order."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import WriteJob, op_of
from memory_worker.contract.errors import LeaseLost
from memory_worker.queue.guards import load_guards
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.queue.replay_guard import Guard, Position
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

MAX_VERSION_DIGITS = 9
_POSITION = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")

_encode = msgspec.msgpack.Encoder().encode

DeadReason = Literal["malformed", "invalid", "refused", "crashed", "superseded"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A job as it stands in a stream. ``version`` is the contract version, 0 where the entry names none.

    ``size_bytes`` is that of the job; of one that is larger than any job may be, ``body`` is empty. ``replay_of`` is
    the position at which a replayed job was first pushed. ``crashed`` says that the entry was tried alone, and that
    each process that tried it has died.
    """

    entry_id: str
    version: int
    body: bytes
    size_bytes: int
    replay_of: Position = ""
    crashed: bool = False

    @property
    def position(self) -> Position:
        """Where the job stands in the order in which jobs were first pushed."""
        return self.replay_of or self.entry_id


class Head(msgspec.Struct, frozen=True):
    """What was read of a partition whose lease was given.

    ``has_letters``: some user has dead letters there. ``is_suspect``: its next batch may kill the process, so nothing
    else may be tried beside it. ``was_orphaned``: the drain before this one never ended.
    """

    entries: list[Entry]
    has_dead_letters: bool = False
    needs_quarantine: bool = False
    was_orphaned: bool = False


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How drains of one process read; ``process`` is its id, which names it in the notes of what is tried."""

    process: str
    process_ttl_ms: int
    max_job_bytes: int
    living: str
    deaths: int = 3
    """Processes that may die with a batch before its entries are tried one by one."""
    deaths_in_quarantine: int = 2
    """Processes that may die with one entry alone before it is a dead letter."""


class DeadEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that can never be applied, and why; ``job`` is ``None`` where it could not be read."""

    entry: Entry
    reason: DeadReason
    detail: str
    job: WriteJob | None = None

    @property
    def op(self) -> str:
        """The op of the job, empty where it could not be read."""
        return "" if self.job is None else op_of(self.job)


class Gone(msgspec.Struct, frozen=True):
    """A dead letter that goes with its user: the position of its job, and the id of its entry."""

    user_id: str
    position: Position
    entry_id: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of ``batch``, the head of a partition: ``dead`` of it become dead letters.

    ``guards`` are the replay guards, by user, as they are now; ``gone`` the older dead letters that a purge deletes.
    """

    lease: Lease
    batch: Sequence[Entry]
    dead: Sequence[DeadEntry] = ()
    guards: Mapping[int, Guard] = MappingProxyType({})
    gone: Sequence[Gone] = ()


class JobLog:
    """The entries of all partitions, for drains that hold a lease."""

    def __init__(self, redis: Redis, keys: Keys, reading: Reading) -> None:
        self._redis = redis
        self._keys = keys
        self._reading = _encode(reading)

    async def open(
        self,
        leases: Mapping[Lease, int],
        *,
        partitions: int,
        max_jobs: int,
        max_bytes: int,
        skip_quarantined: bool = False,
    ) -> list[Head | None]:
        """Take leases, and read from the heads of their partitions; of each as many entries as it is given.

        Return for each lease what was read; ``None`` where another drain holds it. Once ``max_jobs`` or ``max_bytes``
        are read in all, those behind are left alone, and missing; the first is taken in any case, and one entry of it
        read. ``spare_suspects``: nothing of what is suspected of killing its process, which must be tried alone.

        Raises `PartitionMismatch` when the queue has another number of ``partitions``, `QueueUnavailable`.
        """
        keys = self._keys
        ttl_ms = next(iter(leases)).ttl_ms
        script_keys = [keys.meta]
        args: list[Any] = [self._reading, ttl_ms, partitions, max_jobs, max_bytes, int(skip_quarantined)]
        for lease, most in leases.items():
            number = lease.partition
            script_keys += [keys.lease(number), keys.guarded(number), keys.attempts(number), keys.stream(number)]
            args += [lease.token, most]
        started = time.monotonic()
        with queue_request("open"):
            opened = await scripts.run(self._redis, "open", script_keys, args)
        heads = [_opened(lease, found, started) for lease, found in zip(leases, opened, strict=False)]
        for lease in list(leases)[len(heads) :]:
            lease.state = LeaseState.ENDED
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
                [self._reading, lease.token, lease.ttl_ms, max_jobs, max_bytes, start],
            )
        lease.renewed(started)
        return _entries(found)

    async def guards(self, partition: int, jobs: Iterable[tuple[Position, WriteJob]]) -> dict[int, Guard]:
        """Return the replay guards of those users of ``jobs`` who have dead letters, as `load_guards`."""
        return await load_guards(self._redis, self._keys, partition, jobs)

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
            args.append(_encode(_committed(done)))
        started = time.monotonic()
        with queue_request("commit"):
            counts = await scripts.run(self._redis, "commit", keys, args)
        for done, left in zip(batches, counts, strict=True):
            if left == 0 or (give_back and left > 0):
                done.lease.state = LeaseState.ENDED
            elif left > 0:
                done.lease.renewed(started)
        return [left if left >= 0 else None for left in counts]

    def _committed_keys(self, partition: int) -> list[str]:
        keys = self._keys
        return [
            *(keys.lease(partition), keys.stream(partition), keys.applied(partition), keys.dead(partition)),
            *(keys.attempts(partition), keys.guarded(partition)),
        ]


def pushed_at_s(entry_id: str) -> float:
    """Return when the entry was pushed, by Redis's clock, in unix seconds."""
    return int(entry_id.partition("-")[0]) / 1000


def entry_version(field: bytes) -> int:
    """Return the contract version in a field of an entry, 0 where it names none."""
    return int(field) if field.isdigit() and len(field) <= MAX_VERSION_DIGITS else 0


def _opened(lease: Lease, found: list[Any] | None, started: float) -> Head | None:
    if found is None:
        lease.state = LeaseState.ENDED
        return None
    lease.renewed(started)
    has_dead_letters, needs_quarantine, was_orphaned = map(bool, found[:3])
    return Head(_entries(found[3:]), has_dead_letters, needs_quarantine, was_orphaned)


def _entries(flat: list[Any]) -> list[Entry]:
    """Return the entries in what a script has read: whether the head crashed, then five fields of each entry."""
    crashed = bool(flat and flat[0])
    rows = zip(flat[1::5], flat[2::5], flat[3::5], flat[4::5], flat[5::5], strict=True)
    return [
        Entry(entry_id.decode(), entry_version(version), body, size, replay_of(position), crashed)
        for entry_id, version, body, size, position in rows
    ]


def replay_of(field: bytes) -> Position:
    """Return the position in a field of an entry; one that cannot be one makes the entry a push like any other."""
    return field.decode() if field and _POSITION.fullmatch(field) else ""


def _committed(done: Done) -> dict[str, Any]:
    last_id = done.batch[-1].entry_id
    # In the order of the entries, whatever the order in which they were found: a stream takes no other.
    dead_letters = {dead_letter.entry.entry_id: dead_letter for dead_letter in done.dead}
    return {
        "token": done.lease.token,
        "last": last_id,
        "behind": _behind(last_id),
        "bytes": sum(entry.size_bytes for entry in done.batch),
        "dead": [_buried(dead_letters[entry.entry_id]) for entry in done.batch if entry.entry_id in dead_letters],
        "guards": [_guarded(user_id, guard) for user_id, guard in done.guards.items()],
        "gone": done.gone,
    }


def _buried(dead_letter: DeadEntry) -> dict[str, str]:
    return {
        "id": dead_letter.entry.entry_id,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail.encode(errors="backslashreplace").decode(),
        "op": dead_letter.op,
        "user_id": "" if dead_letter.job is None else str(dead_letter.job.user_id),
        "position": dead_letter.entry.replay_of,
    }


def _guarded(user_id: int, guard: Guard) -> dict[str, Any]:
    touched, dead_letters, forgotten = guard.changes()
    return {"user_id": str(user_id), "touched": touched, "dead_letters": dead_letters, "forgotten": forgotten}


def _behind(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
