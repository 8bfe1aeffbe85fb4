"""The plan of a batch: an ordered list of operations for each collection.

Within a batch the last upsert or delete of a point wins. A purge is a barrier: it removes the effect of earlier jobs,
and does not affect later ones. So a collection needs at most three steps: all purges, then the deletes, then the
upserts. This order is enough. No point is both deleted and upserted in a plan. An upsert before a purge that matches it
is planned as a delete, or as nothing if the purge removes all points of the user.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from memory_worker.contract import Delete, Purge, Upsert, WriteJob
from memory_worker.contract.kinds import KINDS, MEMORY, KindName
from memory_worker.store.operations import CollectionRef, DeleteMatching, DeletePoints, Operation, UpsertPoints


class CollectionPlan(msgspec.Struct, frozen=True):
    """The operations of one collection, in order."""

    ref: CollectionRef
    operations: tuple[Operation, ...]


def plan(jobs: Iterable[WriteJob], existing: Iterable[CollectionRef] = ()) -> list[CollectionPlan]:
    """Return the operations for ``jobs``, which are in order and have complete payloads.

    A purge without a namespace applies to the collections in ``existing`` and to those that this batch writes to.
    """
    drafts: dict[CollectionRef, _Draft] = {}
    existing = frozenset(existing)

    def draft(ref: CollectionRef) -> _Draft:
        return drafts.setdefault(ref, _Draft())

    for job in jobs:
        match job:
            case Upsert():
                draft(CollectionRef(job.kind, job.namespace)).write(job)
            case Delete():
                draft(CollectionRef(job.kind, job.namespace)).delete(job.point_ids, job.user_id)
            case Purge():
                for ref in _purged_collections(job, {*existing, *drafts}):
                    draft(ref).purge(job)
    return [CollectionPlan(ref, operations) for ref, found in drafts.items() if (operations := found.operations())]


def needs_existing(jobs: Iterable[WriteJob]) -> bool:
    """Say whether the plan of ``jobs`` depends on which collections exist."""
    return any(isinstance(job, Purge) and job.only_namespace is None and job.only_kind != "document" for job in jobs)


class _Draft:
    """The plan of one collection while it is made: the last write of each point, and the purges."""

    def __init__(self) -> None:
        self._last: dict[str, Upsert | int] = {}  # an int is the user of a deleted point
        self._purges: dict[DeleteMatching, None] = {}

    def write(self, job: Upsert) -> None:
        self._last[job.point_id] = job

    def delete(self, point_ids: Iterable[str], user_id: int) -> None:
        for point_id in point_ids:
            self._last[point_id] = user_id

    def purge(self, job: Purge) -> None:
        where = job.narrowing
        self._purges[DeleteMatching(job.user_id, where)] = None
        if not where:
            self._last = {point_id: last for point_id, last in self._last.items() if _owner(last) != job.user_id}
            return
        for point_id, last in self._last.items():
            if isinstance(last, Upsert) and last.user_id == job.user_id and _matches(last, where):
                self._last[point_id] = job.user_id

    def operations(self) -> tuple[Operation, ...]:
        operations: list[Operation] = list(self._purges)
        if deletes := tuple(point_id for point_id, last in self._last.items() if not isinstance(last, Upsert)):
            operations.append(DeletePoints(deletes))
        if upserts := tuple(last for last in self._last.values() if isinstance(last, Upsert)):
            operations.append(UpsertPoints(upserts))
        return tuple(operations)


def _purged_collections(job: Purge, known: set[CollectionRef]) -> list[CollectionRef]:
    if job.only_namespace is not None:
        return [CollectionRef(MEMORY.name, job.only_namespace)]
    kinds: tuple[KindName, ...] = tuple(KINDS) if job.only_kind is None else (job.only_kind,)
    purged = {CollectionRef(kind) for kind in kinds} | {ref for ref in known if ref.kind in kinds}
    return sorted(purged, key=lambda ref: (ref.kind, ref.namespace or ""))


def _matches(job: Upsert, where: tuple[tuple[str, str | int], ...]) -> bool:
    return all(job.payload.get(name) == value for name, value in where)


def _owner(last: Upsert | int) -> int:
    return last.user_id if isinstance(last, Upsert) else last
