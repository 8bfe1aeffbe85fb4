"""The plan of a batch: an ordered list of operations for each collection.

Within a batch the last upsert or delete of a point wins. A purge is a barrier: it removes the effect of earlier jobs,
and does not affect later ones. So the operations of a collection have four parts: the purges and patches in their
order, then the deletes, then the upserts, then the prunes. This order is enough:

    No point is both deleted and upserted in a plan. An upsert before a purge or a prune that matches it is planned as a
    delete.
    A patch changes the upserts before it in the plan. It is also an operation, for the points that are stored.
    A prune comes last, so that a file has chunks at every moment. `memory_worker.ingest.cuts` ends the batch before an
    upsert that an earlier prune would delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET

from memory_worker.contract import Delete, Patch, Prune, Purge, Upsert, Where, WriteJob, matches
from memory_worker.contract.kinds import ALL_NAMESPACES, KINDS, KindName, Kinds, UserId
from memory_worker.contract.patches import patched
from memory_worker.store.operations import (
    CollectionRef,
    DeleteMatching,
    DeletePoints,
    Operation,
    PatchPoints,
    UpsertPoints,
)


class CollectionPlan(msgspec.Struct, frozen=True):
    """The operations of one collection, in order."""

    ref: CollectionRef
    operations: tuple[Operation, ...]


def plan(
    jobs: Iterable[WriteJob], existing: Iterable[CollectionRef] = (), kinds: Kinds = KINDS
) -> list[CollectionPlan]:
    """Return the operations for ``jobs``, which are in order and have complete payloads.

    A purge without a namespace, or a delete or patch in all of them, applies to the collections in ``existing`` and to
    those that this batch writes to.
    """
    drafts: dict[CollectionRef, _Draft] = {}
    existing = frozenset(existing)

    def draft(ref: CollectionRef) -> _Draft:
        return drafts.setdefault(ref, _Draft())

    for job in jobs:
        if isinstance(job, Upsert):
            draft(CollectionRef(job.kind, job.namespace)).write(job)
            continue
        for ref in _reached(job, {*existing, *drafts}, kinds):
            draft(ref).add(job)
    return [CollectionPlan(ref, operations) for ref, found in drafts.items() if (operations := found.operations())]


def needs_existing(jobs: Iterable[WriteJob], kinds: Kinds = KINDS) -> bool:
    """Say whether the plan of ``jobs`` depends on which collections exist."""
    return any(_reaches_all(job, kinds) for job in jobs)


class _Draft:
    """The plan of one collection while it is made.

    It has the last write of each point, the purges and patches in their order, and the prunes.
    """

    def __init__(self) -> None:
        self._last: dict[str, Upsert | None] = {}  # None: the point is deleted
        self._filters: list[Operation] = []
        self._purges: set[DeleteMatching] = set()  # those since the last patch
        self._prunes: dict[DeleteMatching, None] = {}

    def write(self, job: Upsert) -> None:
        self._last[job.point_id] = job

    def add(self, job: Delete | Purge | Patch | Prune) -> None:
        match job:
            case Delete():
                self._last.update(dict.fromkeys(job.point_ids))
            case Purge():
                self._purge(job.user_id, job.where)
            case Patch():
                self._patch(job)
            case Prune():
                self._prunes[DeleteMatching(job.user_id, job.where)] = None
                self._delete_written(job.user_id, job.where)

    def _purge(self, user_id: UserId, where: Where) -> None:
        purge = DeleteMatching(user_id, where)
        if purge not in self._purges:
            self._purges.add(purge)
            self._filters.append(purge)
        self._delete_written(user_id, where)

    def _patch(self, job: Patch) -> None:
        point_ids: tuple[str, ...] = ()
        if job.point_ids is UNSET:
            self._replace_written(job.user_id, job.where, lambda written: _patched(written, job))
        else:
            for point_id in job.point_ids:
                if isinstance(written := self._last.get(point_id), Upsert):
                    self._last[point_id] = _patched(written, job)
            point_ids = tuple(point_id for point_id in dict.fromkeys(job.point_ids) if point_id not in self._last)
            if not point_ids:
                return
        self._purges.clear()
        self._filters.append(PatchPoints(job.user_id, point_ids, job.where, job.set, tuple(job.unset)))

    def _delete_written(self, user_id: UserId, where: Where) -> None:
        self._replace_written(user_id, where, lambda _: None)

    def _replace_written(self, user_id: UserId, where: Where, replace: Callable[[Upsert], Upsert | None]) -> None:
        for point_id, last in self._last.items():
            if isinstance(last, Upsert) and last.user_id == user_id and matches(last.payload, where):
                self._last[point_id] = replace(last)

    def operations(self) -> tuple[Operation, ...]:
        operations = list(self._filters)
        if deletes := tuple(point_id for point_id, last in self._last.items() if last is None):
            operations.append(DeletePoints(deletes))
        if upserts := tuple(filter(None, self._last.values())):
            operations.append(UpsertPoints(upserts))
        return (*operations, *self._prunes)


def _reaches_all(job: WriteJob, kinds: Kinds) -> bool:
    """Say whether a job applies to all namespaces of a kind that has some."""
    if isinstance(job, Purge):
        return job.only_namespace is None and any(kinds[kind].namespaced for kind in _purged_kinds(job, kinds))
    return job.namespace == ALL_NAMESPACES


def _reached(job: Delete | Purge | Patch | Prune, known: set[CollectionRef], kinds: Kinds) -> list[CollectionRef]:
    """Return the collections to which a job applies. ``known`` are all that exist or are written to."""
    if isinstance(job, Purge):
        reached = _purged_kinds(job, kinds)
        if job.only_namespace is not None:
            return [CollectionRef(reached[0], job.only_namespace)]
    elif job.namespace == ALL_NAMESPACES:
        reached = [job.kind]
    else:
        return [CollectionRef(job.kind, job.namespace)]
    found = {CollectionRef(kind) for kind in reached} | {ref for ref in known if ref.kind in reached}
    return sorted(found, key=lambda ref: (ref.kind, ref.namespace or ""))


def _purged_kinds(job: Purge, kinds: Kinds) -> list[KindName]:
    if job.only_kind is not None:
        return [job.only_kind]
    return [kind.name for kind in kinds.values() if kind.has_user(job.user_id)]


def _patched(written: Upsert, job: Patch) -> Upsert:
    return msgspec.structs.replace(written, payload=patched(written.payload, job))
