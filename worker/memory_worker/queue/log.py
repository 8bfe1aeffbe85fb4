"""The job log has two Redis streams per partition. Drains read them from the head and commit them in order."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt, WriteJob, op_of
from memory_worker.contract.errors import LeaseLost
from memory_worker.contract.kinds import UserId
from memory_worker.queue.guards import load_guards
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.queue.outcomes import OUTCOMES_MAX, PURGED, job_fields, outcome_fields
from memory_worker.queue.replay_guard import Guard, Position
from memory_worker.queue.scripts import scripts
from memory_worker.tracing import settling
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import home_of, streams_of

_MAX_VERSION_DIGITS = 9
_POSITION = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")

_encode = msgspec.msgpack.Encoder().encode

DeadReason = Literal["malformed", "invalid", "refused", "crashed", "superseded"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a stream: an encoded job. ``version`` is its contract version, or 0 if the entry has none.

    ``size_bytes`` is the size of the job. If this is more than any job may have, ``body`` is empty. For a replayed job,
    ``replay_of`` is the position at which it was first pushed. ``crashed`` means that the entry was tried alone, and
    that too many processes died with it. ``trace`` is the trace context of its push.
    """

    entry_id: str
    version: int
    body: bytes
    size_bytes: int
    replay_of: Position = ""
    crashed: bool = False
    trace: str = ""

    @property
    def position(self) -> Position:
        """The place of the job in the order in which jobs were first pushed."""
        return self.replay_of or self.entry_id


class Page(NamedTuple):
    """Entries that were read, and whether any user of the partition had dead letters at that time."""

    entries: list[Entry]
    has_dead_letters: bool


class Head(msgspec.Struct, frozen=True):
    """The entries at the head of a partition whose lease was given, and the state of the partition.

    ``needs_quarantine`` means that the next batch may kill the process, so nothing else may run beside it.
    ``was_orphaned`` means that the drain before this one never ended.
    """

    entries: list[Entry]
    has_dead_letters: bool = False
    needs_quarantine: bool = False
    was_orphaned: bool = False


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of all reads of a process. ``process`` is its id, under which its attempts are recorded."""

    process: str
    partitions: int
    """The number of partitions of the queue."""
    process_prefix: str
    """The prefix of the keys that exist while a process is alive."""
    process_ttl_ms: int
    max_job_bytes: int
    deaths: int = 3
    """The number of processes that must die with a batch before its entries are tried one by one."""
    deaths_in_quarantine: int = 2
    """The number of processes that must die with a single entry before it becomes a dead letter."""


class DeadEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that can never be applied, and the reason. ``job`` is ``None`` if it could not be decoded."""

    entry: Entry
    reason: DeadReason
    detail: str
    job: WriteJob | None = None

    @property
    def op(self) -> str:
        """The op of the job, or an empty string if it could not be decoded."""
        return "" if self.job is None else op_of(self.job)


class PurgedDeadLetter(msgspec.Struct, frozen=True):
    """A dead letter that a purge deletes: its user, the position of its job, and the id of its entry."""

    user_id: str
    position: Position
    entry_id: str


class BatchCommit(msgspec.Struct, frozen=True, kw_only=True):
    """The commit of ``batch``, the entries at the head of a partition. Of these, ``dead`` become dead letters.

    ``guards`` are the replay guards by user, in their new state. ``purged`` are older dead letters that a purge
    deletes. The outcomes of all dead ones are reported, and those of the ``applied`` and ``dropped`` jobs given here.
    """

    lease: Lease
    batch: Sequence[Entry]
    dead: Sequence[DeadEntry] = ()
    applied: Sequence[tuple[Entry, WriteJob]] = ()
    dropped: Sequence[tuple[Entry, WriteJob]] = ()
    guards: Mapping[UserId, Guard] = MappingProxyType({})
    purged: Sequence[PurgedDeadLetter] = ()


class JobLog:
    """The entries of all partitions, for drains that hold a lease. All methods raise `QueueUnavailable`.

    About ``outcomes_max`` outcomes are kept. 0: none are written.
    """

    def __init__(
        self, redis: Redis, keys: Keys, read_options: ReadOptions, *, outcomes_max: int = OUTCOMES_MAX
    ) -> None:
        self._outcomes_max = outcomes_max
        self._redis = redis
        self._keys = keys
        self._partitions = read_options.partitions
        self._read_options = _encode(read_options)

    async def open(
        self,
        leases: Mapping[Lease, int],
        *,
        partitions: int,
        max_jobs: int,
        max_bytes: int,
        skip_quarantined: bool = False,
    ) -> list[Head | None]:
        """Take leases and read the heads of their partitions. ``leases`` has the most entries to read for each.

        Return a head for each lease, or ``None`` if another drain holds it. Once ``max_jobs`` or ``max_bytes`` are read
        in all, further leases are not taken, and the result is shorter. At least one entry of the first partition is
        read. With ``skip_quarantined``, nothing is read from partitions that need quarantine.

        Raises `PartitionMismatch` if the queue has another number of ``partitions``, and `QueuePaused`.
        """
        keys = self._keys
        ttl_ms = next(iter(leases)).ttl_ms
        script_keys = [keys.meta, keys.paused]
        args: list[Any] = [self._read_options, ttl_ms, partitions, max_jobs, max_bytes, int(skip_quarantined)]
        for lease, max_entries in leases.items():
            number, home = lease.partition, self._home_of(lease)
            script_keys += [keys.lease(number), keys.guarded(home), keys.attempts(number), keys.stream(number)]
            script_keys.append(keys.stream(home))
            args += [lease.token, max_entries]
        started = time.monotonic()
        with queue_request("open"):
            opened = await scripts.run(self._redis, "open", script_keys, args)
        heads = [head_of(lease, found, started) for lease, found in zip(leases, opened, strict=False)]
        for lease in list(leases)[len(heads) :]:
            lease.state = LeaseState.ENDED
        return heads

    async def read(self, lease: Lease, *, max_jobs: int, max_bytes: int, after: Entry | None = None) -> Page:
        """Return entries from the head or from behind ``after``, and renew the lease.

        At least one entry is returned if there is any. Of an overflow stream, this means entries that are older than
        all of the home stream. Raises `LeaseLost` if the lease is no longer held, and `QueuePaused`.
        """
        keys, partition, home = self._keys, lease.partition, self._home_of(lease)
        started = time.monotonic()
        start = f"({after.entry_id}" if after else "-"
        with queue_request("read"):
            has_dead_letters, *found = await scripts.run(
                self._redis,
                "read",
                [
                    *(keys.lease(partition), keys.stream(partition), keys.attempts(partition)),
                    *(keys.stream(home), keys.guarded(home), keys.paused),
                ],
                [self._read_options, lease.token, lease.ttl_ms, max_jobs, max_bytes, start],
            )
        lease.renewed(started)
        return Page(_entries(found), bool(has_dead_letters))

    async def guards(self, lease: Lease, jobs: Iterable[tuple[Position, WriteJob]]) -> dict[UserId, Guard]:
        """Return the replay guards for ``jobs`` of the leased partition, as `load_guards` does."""
        return await load_guards(self._redis, self._keys, self._home_of(lease), jobs)

    async def commit(self, commit: BatchCommit) -> int:
        """Commit one batch. Return how many entries are left. Raises `LeaseLost` if its lease is no longer held."""
        (left,) = await self.commit_all([commit])
        if left is None:
            raise LeaseLost
        return left

    async def commit_all(self, commits: Sequence[BatchCommit], *, release: bool = False) -> list[int | None]:
        """Remove batches from the heads of their partitions, and report outcomes.

        A lease is released once its partition is empty, or with ``release`` in any case. Otherwise it is renewed. The
        drain job ends with the lease. If entries are left, it is queued again. Return for each partition how many
        entries are left. ``None`` means that the lease is no longer held, and that nothing was changed.
        """
        keys = self._keys
        script_keys = [keys.backlog, keys.outcomes, keys.watched, keys.drain_queue, keys.drain_wakeup]
        args: list[Any] = [0 if release else commits[0].lease.ttl_ms, self._outcomes_max, DRAIN_JOB_LIFE_MS]
        for commit in commits:
            number = commit.lease.partition
            home, overflow = streams_of(number, self._partitions)
            script_keys += [keys.lease(number), keys.stream(number), keys.applied(number), keys.dead(number)]
            script_keys += [keys.attempts(number), keys.guarded(home), keys.watched_entries(number)]
            script_keys += [keys.dead(overflow if number == home else home), keys.overflow_users(home)]
            job_id = keys.drain_job_id(number)
            script_keys += [keys.arq_job(job_id), keys.arq_in_progress(job_id)]
            args += [job_id, drain_job(number), _encode_commit(commit, overflow=number != home)]
        started = time.monotonic()
        count = sum(len(commit.batch) for commit in commits)
        with settling("commit", keys.prefix, count=count), queue_request("commit"):
            counts = await scripts.run(self._redis, "commit", script_keys, args)
        for commit, left in zip(commits, counts, strict=True):
            if left == 0 or (release and left > 0):
                commit.lease.state = LeaseState.ENDED
            elif left > 0:
                commit.lease.renewed(started)
        return [left if left >= 0 else None for left in counts]

    def _home_of(self, lease: Lease) -> int:
        return home_of(lease.partition, self._partitions)


def pushed_at_s(entry_id: str) -> float:
    """Return when the entry was pushed, by Redis's clock, in unix seconds."""
    return int(entry_id.partition("-")[0]) / 1000


def parse_version(field: bytes) -> int:
    """Return the contract version of an entry, or 0 if the field has none."""
    return int(field) if field.isdigit() and len(field) <= _MAX_VERSION_DIGITS else 0


def parse_position(field: bytes) -> Position:
    """Return the position of a replayed job. It is empty if the job is a new one, or if the field is malformed."""
    return field.decode() if field and _POSITION.fullmatch(field) else ""


def parse_trace(field: bytes) -> str:
    """Return the trace context of an entry. It is empty if there is none, or if it is no ASCII text."""
    return field.decode() if field and field.isascii() else ""


def head_of(lease: Lease, found: list[Any] | None, started: float) -> Head | None:
    """Return what ``opening.lua`` has read under a lease that was requested at the monotonic time ``started``.

    Return ``None`` if another drain holds the lease. The state of the lease is updated.
    """
    if found is None:
        lease.state = LeaseState.ENDED
        return None
    lease.renewed(started)
    has_dead_letters, needs_quarantine, was_orphaned = map(bool, found[:3])
    return Head(_entries(found[3:]), has_dead_letters, needs_quarantine, was_orphaned)


def _entries(flat: list[Any]) -> list[Entry]:
    """Return the entries that a script has read: whether the head has crashed, then six fields for each entry."""
    crashed = bool(flat and flat[0])
    rows = zip(flat[1::6], flat[2::6], flat[3::6], flat[4::6], flat[5::6], flat[6::6], strict=True)
    return [
        Entry(
            entry_id.decode(), parse_version(version), body, size, parse_position(position), crashed, parse_trace(trace)
        )
        for entry_id, version, body, size, position, trace in rows
    ]


def _encode_commit(commit: BatchCommit, *, overflow: bool) -> bytes:
    """Encode a commit for the script. ``overflow`` says whether it is about an overflow stream."""
    last_id = commit.batch[-1].entry_id
    dead = {dead_letter.entry.entry_id: dead_letter for dead_letter in commit.dead}
    document = {
        "token": commit.lease.token,
        "last": last_id,
        "after": id_after(last_id),
        "overflow": overflow,
        "bytes": sum(entry.size_bytes for entry in commit.batch),
        # In the order of the batch, because a stream only accepts growing ids.
        "dead": [_dead_letter_fields(dead[entry.entry_id]) for entry in commit.batch if entry.entry_id in dead],
        "guards": [{"user_id": str(user_id), **guard.changes()._asdict()} for user_id, guard in commit.guards.items()],
        "purged": commit.purged,
        "outcomes": _outcomes(commit),
    }
    return _encode(document)


def _dead_letter_fields(dead_letter: DeadEntry) -> dict[str, str]:
    return {
        "id": dead_letter.entry.entry_id,
        "reason": dead_letter.reason,
        "detail": _unicode(dead_letter.detail),
        "position": dead_letter.entry.replay_of,
        **job_fields(dead_letter.job),
    }


def _outcomes(commit: BatchCommit) -> list[list[str]]:
    """Return the fields of all outcomes to report, in the order of the batch."""
    if not (commit.dead or commit.applied or commit.dropped):
        return []
    partition, found = commit.lease.partition, dict[str, list[str]]()

    def add(entry: Entry, job: WriteJob | None, outcome: str, reason: str = "", detail: str = "") -> None:
        receipt = Receipt(partition, entry.entry_id)
        found[entry.entry_id] = outcome_fields(receipt, entry.position, job, outcome, reason=reason, detail=detail)

    for dead_letter in commit.dead:
        add(dead_letter.entry, dead_letter.job, "dead", dead_letter.reason, _unicode(dead_letter.detail))
    for entry, job in commit.applied:
        add(entry, job, "applied")
    for entry, job in commit.dropped:
        add(entry, job, "dropped", PURGED)
    return [found[entry.entry_id] for entry in commit.batch if entry.entry_id in found]


def _unicode(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def id_after(entry_id: str) -> str:
    """Return the id right after that of an entry."""
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
