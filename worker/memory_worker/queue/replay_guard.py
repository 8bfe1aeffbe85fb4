"""The replay guard keeps the replay of a dead letter from undoing newer jobs.

The rule: a dead letter is stale if a job with a later position has touched any of its points. The position of a job is
the id of the entry under which it was first pushed. A replay keeps the position, however often the job is replayed.

Jobs name their points in two ways. Upserts, deletes and some patches have point ids. Purges, prunes and the other
patches select points by their payload: they have a scope.

A `Guard` has what this rule needs to know about one user who has dead letters:

    dead letters   the dead letters by position, each with its op and the scope of its points
    points         the points that dead letters name, each with the last position that touched it
    dead purges    the scopes of dead jobs with a scope, each with the last position that touched a point in it. A patch
                   that moves points out of its scope has another one, with the points after it
    purges         the scopes of jobs that were applied, each with its last position

It knows nothing about other points. So its size depends only on the dead letters, and the cost of a job does not depend
on their number. In Redis, the dead letters and the points of a user are one hash each, and both kinds of scopes are one
field of the points. `memory_worker.queue.guards` loads a guard, and ``commit.lua`` stores its changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET

from memory_worker.contract import Condition, Delete, Patch, Prune, Purge, Upsert, Where, WriteJob, matches, op_of
from memory_worker.contract.fields import NARROWING
from memory_worker.contract.kinds import ALL_NAMESPACES, KindName

Position: TypeAlias = str
"""The id of an entry, such as ``1732000000000-0``."""

NEVER: Position = "0-0"
MAX_SCOPES = 64
"""The most scopes that are kept. If there are more, all are widened, so that more replays are refused."""
PURGES_FIELD = ""
"""The field of the stored points that has the scopes."""

_ANY_NAMESPACE = "**"
_KEPT_AT_PURGE = ("purge", "prune")
"""Dead letters with these ops have no data of the user, and a purge does not delete them."""


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """The points that a job selects by their payload, or the collection that has the points of another job.

    ``kind`` and ``namespace`` ``None`` mean all of them, and the namespace "" means points without one. ``where`` are
    the payload values to which the job is narrowed, and ``others`` the conditions of other types. ``widened`` says that
    the job may have been narrowed by more, which is no longer known. Older releases did not store this.
    """

    kind: KindName | None
    namespace: str | None
    where: tuple[tuple[str, str | int], ...] = ()
    others: Where = ()
    widened: bool = True

    @property
    def is_narrowed(self) -> bool:
        """Whether only some points of the collections are selected."""
        return bool(self.where or self.others or self.widened)

    def covers(self, job: WriteJob) -> bool:
        """Return whether the scope may have a point of ``job``, which has point ids.

        The payload of a point that is deleted or patched is unknown.
        """
        if not self._shares_collection(scope_of(job)):
            return False
        return not isinstance(job, Upsert) or self._selects(job.payload)

    def overlaps(self, other: Scope) -> bool:
        """Return whether both scopes may have the same point."""
        where = dict(other.where)
        return self._shares_collection(other) and all(where.get(name, value) == value for name, value in self.where)

    def contains(self, other: Scope) -> bool:
        """Return whether this scope has all points of ``other``, if it is not narrowed."""
        return self.kind in (None, other.kind) and self.namespace in (None, other.namespace)

    def stands_for(self, other: Scope) -> bool:
        """Return whether ``other`` is kept as this scope: it is the same one, or was widened to it."""
        if not self.widened:
            return self == other
        return self.contains(other) and {*self.where, *self.others} <= {*other.where, *other.others}

    def wide(self) -> Scope:
        """Return the scope without its conditions."""
        return Scope(self.kind, self.namespace, widened=self.is_narrowed)

    def _shares_collection(self, other: Scope) -> bool:
        pairs = ((self.kind, other.kind), (self.namespace, other.namespace))
        return all(mine == theirs or None in (mine, theirs) for mine, theirs in pairs)

    def _selects(self, payload: Mapping[str, object]) -> bool:
        return matches(payload, (*(Condition(name, value) for name, value in self.where), *self.others))


_ANYWHERE = Scope(None, None)


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


def has_scope(job: WriteJob) -> bool:
    """Return whether a job selects points by their payload. Otherwise it has point ids."""
    return isinstance(job, (Purge, Prune)) or (isinstance(job, Patch) and job.point_ids is UNSET)


def is_full_purge(job: WriteJob) -> bool:
    """Return whether a job deletes all points of a user in some collections."""
    return isinstance(job, Purge) and not job.is_narrowed


def scope_of(job: WriteJob) -> Scope:
    """Return the scope of a job, or the collections that have the points of a job with point ids."""
    if isinstance(job, Purge):
        return _scope(job.only_kind, job.only_namespace, job.where)
    namespace = None if job.namespace == ALL_NAMESPACES else job.namespace or ""
    return _scope(job.kind, namespace, job.where if isinstance(job, (Patch, Prune)) else ())


def touched_scopes(job: WriteJob) -> list[Scope]:
    """Return the scopes that have the points of a job with a scope: before the job and, if it moves them, after it."""
    scope = scope_of(job)
    if not (isinstance(job, Patch) and any(field in job.set or field in job.unset for field, _ in scope.where)):
        return [scope]
    values = ((field, job.set.get(field)) for field in NARROWING)
    moved = [
        Condition(field, value)
        for field, value in values
        if isinstance(value, (str, int)) and not isinstance(value, bool)
    ]
    return [scope, _scope(scope.kind, scope.namespace, moved)]


def touched_keys(job: WriteJob) -> list[str]:
    """Return the keys of a guard's points that ``job`` touches. A job with a scope names no points."""
    return [*_keys(job, _named_namespace(job)), *_keys(job, _ANY_NAMESPACE)]


def watched_keys(job: WriteJob) -> list[str]:
    """Return the keys of a guard's points that decide whether the dead ``job`` is stale."""
    namespace = _named_namespace(job)
    if namespace == ALL_NAMESPACES:
        return _keys(job, _ANY_NAMESPACE)
    return [*_keys(job, namespace), *_keys(job, ALL_NAMESPACES)]


def _scope(kind: KindName | None, namespace: str | None, where: Iterable[Condition]) -> Scope:
    where = tuple(where)
    return Scope(
        kind,
        namespace,
        tuple((condition.field, condition.value) for condition in where if condition.test == "is"),
        tuple(condition for condition in where if condition.test != "is"),
        widened=False,
    )


def _named_namespace(job: WriteJob) -> str:
    """Return the namespace of a job with point ids. ``*`` has a key of its own, for jobs of all namespaces."""
    return "" if isinstance(job, Purge) else job.namespace or ""


def _keys(job: WriteJob, namespace: str) -> list[str]:
    match job:
        case Upsert():
            ids: Iterable[str] = (job.point_id,)
        case Delete():
            ids = job.point_ids
        case Patch(point_ids=list() as found):
            ids = found
        case _:
            return []
    return [f"{job.kind} {namespace} {point_id}" for point_id in ids]


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
        """Return whether a later purge, which was not narrowed, has deleted all points of the dead ``job``."""
        if op_of(job) in _KEPT_AT_PURGE:
            return False
        own, collections = sort_key(position), scope_of(job)
        return any(
            not scope.is_narrowed and scope.contains(collections) and sort_key(purged_at) > own
            for scope, purged_at in self.purges.items()
        )

    def record(self, job: WriteJob, position: Position) -> None:
        """Record that ``job``, which was first pushed at ``position``, was applied."""
        for point in touched_keys(job):
            if point in self.points:
                self.points[point] = latest(self.points[point], position)
        scopes = touched_scopes(job) if has_scope(job) else []
        for dead in self.dead_purges:
            if any(map(dead.overlaps, scopes)) if scopes else dead.covers(job):
                self.dead_purges[dead] = latest(self.dead_purges[dead], position)
        if scopes:
            self.purges = _with_scope(self.purges, scopes[0], position)

    def add(self, job: WriteJob, position: Position, entry_id: str) -> None:
        """Guard the dead letter of ``job`` from now on."""
        for point in watched_keys(job):
            self.points.setdefault(point, NEVER)
        for scope in touched_scopes(job) if has_scope(job) else ():
            self.dead_purges = _with_scope(self.dead_purges, scope, NEVER)
        self.dead_letters[position] = GuardedJob(entry_id, op_of(job), scope_of(job))

    def purged_by(self, purge: WriteJob, position: Position) -> dict[Position, GuardedJob]:
        """Return the older dead letters that ``purge``, which is not narrowed, deletes."""
        scope, own = scope_of(purge), sort_key(position)
        return {
            other: dead_letter
            for other, dead_letter in self.dead_letters.items()
            if dead_letter.op not in _KEPT_AT_PURGE and sort_key(other) < own and scope.contains(dead_letter.scope)
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
        for point in watched_keys(job):
            yield self.points.get(point, NEVER)
        if not has_scope(job):
            yield from (position for scope, position in self.purges.items() if scope.covers(job))
            return
        scopes = touched_scopes(job)
        for dead, position in self.dead_purges.items():
            if any(map(dead.stands_for, scopes)):
                yield position


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
    wide: dict[Scope, Position] = {}
    for one, at in (*scopes.items(), (scope, position)):
        wide[one.wide()] = latest(wide.get(one.wide(), NEVER), at)
    return wide if len(wide) <= MAX_SCOPES else {_ANYWHERE: max(wide.values(), key=sort_key)}
