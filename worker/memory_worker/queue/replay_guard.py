"""The replay guard keeps the replay of a dead letter from undoing newer jobs.

The rule: a dead letter is stale if a job with a later position has touched any of its points. The position of a job is
the id of the entry under which it was first pushed. A replay keeps the position, however often the job is replayed.

A `Guard` has what this rule needs to know about one user who has dead letters:

    dead letters   the dead letters by position, each with its op and the scope of its points
    points         the points of dead upserts and deletes, each with the last position that touched it
    dead purges    the scopes of dead purges, each with the last position that touched a point in it
    purges         the scopes of the purges that were applied, each with its last position

It knows nothing about other points. So its size depends only on the dead letters, and the cost of a job does not depend
on their number. In Redis, the dead letters and the points of a user are one hash each, and both kinds of purges are one
field of the points. `memory_worker.queue.guards` loads a guard, and ``commit.lua`` stores its changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from memory_worker.contract import Delete, Purge, Upsert, WriteJob, op_of
from memory_worker.contract.kinds import KindName

Position: TypeAlias = str
"""The id of an entry, such as ``1732000000000-0``."""

NEVER: Position = "0-0"
MAX_SCOPES = 64
"""The most scopes of purges that are kept. If there are more, all are widened, so that more replays are refused."""
PURGES_FIELD = ""
"""The field of the stored points that has the purges."""


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """The points that a purge deletes, or the collection that has the points of another job.

    ``kind`` and ``namespace`` ``None`` mean all of them, and the namespace "" means memories without one. ``where``
    are the payload values to which the purge is narrowed.
    """

    kind: KindName | None
    namespace: str | None
    where: tuple[tuple[str, str | int], ...] = ()

    def covers(self, job: Upsert | Delete) -> bool:
        """Return whether the purge may delete a point of ``job``. The payload of a deleted point is unknown."""
        if self.kind not in (None, job.kind) or self.namespace not in (None, job.namespace or ""):
            return False
        return isinstance(job, Delete) or all(job.payload.get(name) == value for name, value in self.where)

    def overlaps(self, other: Scope) -> bool:
        """Return whether two purges may delete the same point."""
        pairs = ((self.kind, other.kind), (self.namespace, other.namespace))
        if any(mine != theirs and None not in (mine, theirs) for mine, theirs in pairs):
            return False
        where = dict(other.where)
        return all(where.get(name, value) == value for name, value in self.where)

    def widened(self) -> Scope:
        """Return the scope of the same purge if it were not narrowed."""
        return Scope(self.kind, self.namespace)


class GuardedJob(msgspec.Struct, frozen=True, array_like=True):
    """A guarded dead letter: the id of its entry among the dead letters, the op of its job, and its scope."""

    entry_id: str
    op: str
    scope: Scope


class GuardChanges(NamedTuple):
    """What a commit stores of a guard: changed fields of the points, new dead letters, and positions to forget."""

    points: dict[str, str]
    dead_letters: dict[Position, str]
    forgotten: list[Position]


def sort_key(position: Position) -> tuple[int, int]:
    """Return the numbers by which positions are ordered."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def latest(one: Position, other: Position) -> Position:
    """Return the later of two positions."""
    return max(one, other, key=sort_key)


def scope_of(job: WriteJob) -> Scope:
    """Return the scope of a purge, or the collection that has the points of an upsert or a delete."""
    if not isinstance(job, Purge):
        return Scope(job.kind, job.namespace or "")
    return Scope(job.only_kind, job.only_namespace, job.narrowing)


def point_keys(job: WriteJob) -> list[str]:
    """Return the keys under which a guard keeps the points of ``job``. A purge names no points."""
    if isinstance(job, Purge):
        return []
    ids = [job.point_id] if isinstance(job, Upsert) else job.point_ids
    return [f"{job.kind} {job.namespace or ''} {point_id}" for point_id in ids]


class Guard:
    """The replay guard of one user, with all dead letters or those that the current jobs may concern.

    The module's docstring describes its four dictionaries. They are changed in place, and `changes` returns what to
    store.
    """

    def __init__(
        self,
        points: dict[str, Position] | None = None,
        purges: bytes = b"",
        dead_letters: dict[Position, GuardedJob] | None = None,
    ) -> None:
        stored = _purges_decoder.decode(purges) if purges else _StoredPurges()
        self.points = dict(points or {})
        self.purges = dict(stored.applied)
        self.dead_purges = dict(stored.dead)
        self.dead_letters = dict(dead_letters or {})
        self._before = (dict(self.points), dict(self.purges), dict(self.dead_purges), dict(self.dead_letters))

    def is_stale(self, job: WriteJob, position: Position) -> bool:
        """Return whether a job with a later position has touched any point of the dead ``job``."""
        own = sort_key(position)
        return any(sort_key(other) > own for other in self._last_touches(job))

    def is_purged(self, job: WriteJob, position: Position) -> bool:
        """Return whether a later purge, which was not narrowed, has deleted the points of the dead ``job``."""
        if isinstance(job, Purge):
            return False
        own = sort_key(position)
        return any(
            not scope.where and scope.covers(job) and sort_key(purged_at) > own
            for scope, purged_at in self.purges.items()
        )

    def record(self, job: WriteJob, position: Position) -> None:
        """Record that ``job``, which was first pushed at ``position``, was applied."""
        for point in point_keys(job):
            if point in self.points:
                self.points[point] = latest(self.points[point], position)
        scope = scope_of(job)
        for dead in self.dead_purges:
            if dead.overlaps(scope) if isinstance(job, Purge) else dead.covers(job):
                self.dead_purges[dead] = latest(self.dead_purges[dead], position)
        if isinstance(job, Purge):
            self.purges = _with_scope(self.purges, scope, position)

    def add(self, job: WriteJob, position: Position, entry_id: str) -> None:
        """Guard the dead letter of ``job`` from now on."""
        for point in point_keys(job):
            self.points.setdefault(point, NEVER)
        if isinstance(job, Purge):
            self.dead_purges = _with_scope(self.dead_purges, scope_of(job), NEVER)
        self.dead_letters[position] = GuardedJob(entry_id, op_of(job), scope_of(job))

    def purged_by(self, purge: Purge, position: Position) -> dict[Position, GuardedJob]:
        """Return the older dead upserts and deletes that ``purge`` deletes."""
        scope, own = scope_of(purge), sort_key(position)
        return {
            other: dead_letter
            for other, dead_letter in self.dead_letters.items()
            if dead_letter.op != "purge" and sort_key(other) < own and scope.overlaps(dead_letter.scope)
        }

    def changes(self) -> GuardChanges:
        """Return what has changed since the guard was loaded."""
        points, purges, dead_purges, dead_letters = self._before
        changed = {point: position for point, position in self.points.items() if points.get(point) != position}
        if (self.purges, self.dead_purges) != (purges, dead_purges):
            changed[PURGES_FIELD] = _encode(_StoredPurges(list(self.purges.items()), list(self.dead_purges.items())))
        added = {
            position: _encode(dead_letter)
            for position, dead_letter in self.dead_letters.items()
            if dead_letters.get(position) != dead_letter
        }
        return GuardChanges(
            changed, added, [position for position in dead_letters if position not in self.dead_letters]
        )

    def _last_touches(self, job: WriteJob) -> Iterator[Position]:
        """Yield the last position of each job that may have touched a point of ``job``."""
        for point in point_keys(job):
            yield self.points.get(point, NEVER)
        if isinstance(job, Purge):
            scope = scope_of(job)
            yield self.dead_purges.get(scope, self.dead_purges.get(scope.widened(), NEVER))
        else:
            yield from (position for scope, position in self.purges.items() if scope.covers(job))


class _StoredPurges(msgspec.Struct, array_like=True):
    applied: list[tuple[Scope, Position]] = []
    dead: list[tuple[Scope, Position]] = []


_purges_decoder = msgspec.json.Decoder(_StoredPurges)
_job_decoder = msgspec.json.Decoder(GuardedJob)


def _encode(stored: GuardedJob | _StoredPurges) -> str:
    return msgspec.json.encode(stored).decode()


def decode_guarded_job(body: bytes) -> GuardedJob:
    """Decode a stored dead letter. Raises ``msgspec.DecodeError``."""
    return _job_decoder.decode(body)


def _with_scope(scopes: dict[Scope, Position], scope: Scope, position: Position) -> dict[Scope, Position]:
    """Return ``scopes`` with one more. Once there are too many, all of them are widened."""
    if scope in scopes or len(scopes) < MAX_SCOPES:
        return {**scopes, scope: latest(scopes.get(scope, NEVER), position)}
    return _widened([*scopes.items(), (scope, position)])


def _widened(scopes: Iterable[tuple[Scope, Position]]) -> dict[Scope, Position]:
    widened: dict[Scope, Position] = {}
    for scope, position in scopes:
        wide = scope.widened()
        widened[wide] = latest(widened.get(wide, NEVER), position)
    return widened
