"""The replay guard: it keeps the replay of a dead letter from undoing newer jobs.

One rule: a dead letter is stale if a job with a later position touched any of its points. The position of a job is the
id of the entry under which it was first pushed; a replay keeps it, however often it is replayed.

A `Guard` holds what has to be known for that, for one user who has dead letters: the points of these letters, each with
the last position that touched it, and the purges that were applied since. It says nothing about other points, so its
size follows the letters, and what a job costs does not depend on how many letters there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from memory_worker.contract import Delete, Purge, Upsert, WriteJob, op_of
from memory_worker.contract.kinds import KindName

Position: TypeAlias = str
"""The id of an entry, such as ``1732000000000-0``."""

NEVER: Position = "0-0"
MOST_REACHES = 64
"""Different purges that are kept apart; beyond that, what narrows them is ignored, which only refuses more."""


class Reach(msgspec.Struct, frozen=True, array_like=True):
    """The points that a purge deletes; ``None`` stands for every kind and every namespace, "" for the base collection.

    ``where`` are the payload values to which the purge is narrowed.
    """

    kind: KindName | None
    namespace: str | None
    where: tuple[tuple[str, str | int], ...] = ()

    def covers(self, job: Upsert | Delete) -> bool:
        """Say whether the purge may delete a point of ``job``; what a deleted point held is not known."""
        if self.kind not in (None, job.kind) or self.namespace not in (None, job.namespace or ""):
            return False
        return isinstance(job, Delete) or all(job.payload.get(name) == value for name, value in self.where)

    def overlaps(self, other: Reach) -> bool:
        """Say whether two purges may delete the same point."""
        both = ((self.kind, other.kind), (self.namespace, other.namespace))
        if any(one != two and None not in (one, two) for one, two in both):
            return False
        theirs = dict(other.where)
        return all(theirs.get(name, value) == value for name, value in self.where)

    def widened(self) -> Reach:
        """Return the same purge, not narrowed."""
        return Reach(self.kind, self.namespace)


class GuardedJob(msgspec.Struct, frozen=True, array_like=True):
    """A dead letter as a guard knows it: the id of its entry among the dead letters, and where its points are."""

    entry_id: str
    op: str
    reach: Reach


def order(position: Position) -> tuple[int, int]:
    """Return what positions compare by."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def later(one: Position, other: Position) -> Position:
    """Return the later of two positions."""
    return max(one, other, key=order)


def reach_of(job: WriteJob) -> Reach:
    """Return what a purge deletes, or the collection in which a write or a delete has its points."""
    if not isinstance(job, Purge):
        return Reach(job.kind, job.namespace or "")
    return Reach(job.only_kind, job.only_namespace, job.narrowing)


def point_fields(job: WriteJob) -> list[str]:
    """Return the names under which a guard keeps the points that ``job`` names; a purge names none."""
    if isinstance(job, Purge):
        return []
    ids = [job.point_id] if isinstance(job, Upsert) else job.point_ids
    return [f"{job.kind} {job.namespace or ''} {point_id}" for point_id in ids]


class Guard:
    """What is known of one user's dead letters: of all of them, or of those that the jobs at hand concern.

    ``touched`` has the guarded points, each with the last position that touched it. ``purges`` are the purges that were
    applied, ``watches`` the dead ones, each with the last position that touched a point in its reach. ``letters`` are
    the dead letters by position. All are changed in place; `changes` returns what to store.
    """

    def __init__(
        self,
        touched: dict[str, Position] | None = None,
        reaches: bytes = b"",
        dead_letters: dict[Position, GuardedJob] | None = None,
    ) -> None:
        stored = _reaches_decoder.decode(reaches) if reaches else _Reaches()
        self.touched = dict(touched or {})
        self.purges = dict(stored.purges)
        self.watches = dict(stored.watches)
        self.dead_letters = dict(dead_letters or {})
        self._before = (dict(self.touched), dict(self.purges), dict(self.watches), dict(self.dead_letters))

    def is_stale(self, job: WriteJob, position: Position) -> bool:
        """Say whether a job with a later position touched any point of ``job``, which was pushed at ``position``."""
        mine = order(position)
        return any(order(other) > mine for other in self._touching(job))

    def is_purged(self, job: WriteJob, position: Position) -> bool:
        """Say whether a later purge took all points of the user where ``job`` has its own."""
        if isinstance(job, Purge):
            return False
        mine = order(position)
        return any(not reach.where and reach.covers(job) and order(at) > mine for reach, at in self.purges.items())

    def record(self, job: WriteJob, position: Position) -> None:
        """Note that ``job``, pushed at ``position``, was applied."""
        for field in point_fields(job):
            if field in self.touched:
                self.touched[field] = later(self.touched[field], position)
        reach = reach_of(job)
        for watched in self.watches:
            if watched.overlaps(reach) if isinstance(job, Purge) else watched.covers(job):
                self.watches[watched] = later(self.watches[watched], position)
        if isinstance(job, Purge):
            self.purges = _with(self.purges, reach, position)

    def add(self, job: WriteJob, position: Position, entry_id: str) -> None:
        """Guard the dead letter of ``job`` from now on."""
        for field in point_fields(job):
            self.touched.setdefault(field, NEVER)
        if isinstance(job, Purge):
            self.watches = _with(self.watches, reach_of(job), NEVER)
        self.dead_letters[position] = GuardedJob(entry_id, op_of(job), reach_of(job))

    def purged_by(self, purge: Purge, position: Position) -> dict[Position, GuardedJob]:
        """Return the older dead upserts and deletes of the user in the reach of ``purge``."""
        reach, mine = reach_of(purge), order(position)
        return {
            at: dead_letter
            for at, dead_letter in self.dead_letters.items()
            if dead_letter.op != "purge" and order(at) < mine and reach.overlaps(dead_letter.reach)
        }

    def changes(self) -> tuple[dict[str, str], dict[Position, str], list[Position]]:
        """Return the fields to store of touched points, the letters to store, and the positions to forget."""
        touched, purges, watches, dead_letters = self._before
        fields = {field: at for field, at in self.touched.items() if touched.get(field) != at}
        if (self.purges, self.watches) != (purges, watches):
            fields[REACHES] = _text(_Reaches(list(self.purges.items()), list(self.watches.items())))
        added = {
            at: _text(dead_letter)
            for at, dead_letter in self.dead_letters.items()
            if dead_letters.get(at) != dead_letter
        }
        return fields, added, [at for at in dead_letters if at not in self.dead_letters]

    def _touching(self, job: WriteJob) -> Iterator[Position]:
        """Yield the last positions of what may have touched a point of ``job``."""
        for field in point_fields(job):
            yield self.touched.get(field, NEVER)
        if isinstance(job, Purge):
            reach = reach_of(job)
            yield self.watches.get(reach, self.watches.get(reach.widened(), NEVER))
        else:
            yield from (at for reach, at in self.purges.items() if reach.covers(job))


REACHES = ""
"""The field of a stored guard that holds its purges and watches; all others are points."""


class _Reaches(msgspec.Struct, array_like=True):
    purges: list[tuple[Reach, Position]] = []
    watches: list[tuple[Reach, Position]] = []


_reaches_decoder = msgspec.json.Decoder(_Reaches)
_letter_decoder = msgspec.json.Decoder(GuardedJob)


def _text(stored: GuardedJob | _Reaches) -> str:
    return msgspec.json.encode(stored).decode()


def decode_letter(body: bytes) -> GuardedJob:
    """Return the letter stored as ``body``; raises ``msgspec.DecodeError``."""
    return _letter_decoder.decode(body)


def _with(reaches: dict[Reach, Position], reach: Reach, position: Position) -> dict[Reach, Position]:
    """Return ``reaches`` with one more, or with none of them narrowed once there are too many."""
    if reach in reaches or len(reaches) < MOST_REACHES:
        return {**reaches, reach: later(reaches.get(reach, NEVER), position)}
    return _folded([*reaches.items(), (reach, position)])


def _folded(reaches: Iterable[tuple[Reach, Position]]) -> dict[Reach, Position]:
    folded: dict[Reach, Position] = {}
    for reach, position in reaches:
        wide = reach.widened()
        folded[wide] = later(folded.get(wide, NEVER), position)
    return folded
