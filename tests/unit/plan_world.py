"""Random write jobs and stored points, and an oracle that applies the jobs one by one as their docstrings say.

There are few users, points and values, so that jobs touch the same points.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import UNSET

from memory_worker.contract import Delete, Limits, Patch, Prune, Purge, Upsert, WriteJob, checked
from memory_worker.contract.kind_specs import KindSpec, kinds_of
from memory_worker.contract.kinds import ALL_NAMESPACES, Kind, UserId, primary_id
from memory_worker.ingest.cuts import Cuts
from memory_worker.store.operations import CollectionRef
from tests.unit.engine_model import Points

World: TypeAlias = dict[CollectionRef, Points]

KINDS = kinds_of(
    {
        "memory": KindSpec(),
        "document": KindSpec(),
        "note": KindSpec(
            collection="user_notes",
            id_prefix="note",
            user_ids="string",
            namespaces=True,
            fields={"category": "str", "file_id": "int"},
            narrowing=["category", "file_id"],
        ),
    }
)
"""The built-in kinds, and one whose users are texts and whose other fields have any type."""
LIMITS = Limits(kinds=KINDS)
NEW = CollectionRef("memory", "new")
"""No point is stored in this namespace, and it does not exist at first."""
REFS = (
    *(CollectionRef("memory"), CollectionRef("memory", "good"), CollectionRef("document")),
    *(CollectionRef("note"), CollectionRef("note", "good")),
)
USERS: dict[str, tuple[UserId, ...]] = {"memory": (1, 2), "document": (1, 2), "note": ("ann",)}
VECTOR = struct.pack("<f", 1)
NUMBERS = 3
VALUES: dict[str, tuple[Any, ...]] = {
    "category": ("a", "b"),
    "group_key": ("g", "h"),
    "file_id": (1, 2),
    "created": (1, 2, 3),
    "embedding_model_id": (1, 2),
    "active": (True, False),
    "text": ("x", "y"),
}
ODD: tuple[Any, ...] = (
    *(None, [], [None], "1", "a", 1.0, 1.5, True, ["a", "b"], [1, 2]),
    *([1, "a"], {"a": 1}, [[1]], "", 0, 2**53 + 1),
)
"""Values of points that no job of this contract wrote, and of fields without a type."""
NOBODY: tuple[Any, ...] = (None, [], "1", 1.0, True)
"""User ids of points that no user of a job has. A point of two users at once is not possible here."""


# The oracle.


def in_order(world: World, jobs: Iterable[WriteJob]) -> World:
    """Return the world after the jobs, applied one by one."""
    world = {ref: dict(points) for ref, points in world.items()}
    for job in jobs:
        apply(world, job)
    return world


def apply(world: World, job: WriteJob) -> None:
    match job:
        case Upsert():
            points = world.setdefault(CollectionRef(job.kind, job.namespace), {})
            _delete(points, lambda key, payload: _is_point(key, payload, [job.point_id]))
            points[primary_id(job.point_id)] = job.payload
        case Delete():
            for points in _reached(world, job):
                _delete(points, lambda key, payload: _is_point(key, payload, job.point_ids))
        case Purge():
            for points in _reached(world, job):
                _delete(points, lambda _, payload: is_purged(payload, job))
        case Patch():
            for points in _reached(world, job):
                _patch(points, job)
        case Prune():
            for points in _reached(world, job):
                _delete(points, lambda _, payload: is_pruned(payload, job))


def _reached(world: World, job: Delete | Purge | Patch | Prune) -> Iterator[Points]:
    for ref, points in world.items():
        of_kind = KINDS[ref.kind].has_user(job.user_id) if job.kind is UNSET else job.kind == ref.kind
        if of_kind and job.namespace in (UNSET, ALL_NAMESPACES, ref.namespace):
            yield points


def _delete(points: Points, selected: Callable[[str | int, dict[str, Any]], bool]) -> None:
    for key in [key for key, payload in points.items() if selected(key, payload)]:
        del points[key]


def _patch(points: Points, job: Patch) -> None:
    for key, payload in points.items():
        if not _has(payload, "user_id", job.user_id):
            continue
        by_ids = job.point_ids is not UNSET
        if _is_point(key, payload, job.point_ids) if by_ids else is_narrowed_to(payload, job):
            points[key] = {name: value for name, value in payload.items() if name not in job.unset} | job.set


def _is_point(key: str | int, payload: dict[str, Any], point_ids: list[str]) -> bool:
    return any(key == primary_id(point_id) or _has(payload, "_point_id", point_id) for point_id in point_ids)


def is_narrowed_to(payload: dict[str, Any], job: Purge | Patch) -> bool:
    wanted = {"category": job.category, "group_key": job.group_key, "file_id": job.file_id}
    return all(value is UNSET or _has(payload, name, value) for name, value in wanted.items())


def is_purged(payload: dict[str, Any], job: Purge) -> bool:
    models = [value for value in _values(payload, "embedding_model_id") if value is not None]
    return (
        _has(payload, "user_id", job.user_id)
        and is_narrowed_to(payload, job)
        and (job.before is UNSET or _has_below(payload, "created", job.before))
        and (job.other_than_model is UNSET or any(not _same(value, job.other_than_model) for value in models))
    )


def is_pruned(payload: dict[str, Any], job: Prune) -> bool:
    return (
        _has(payload, "user_id", job.user_id)
        and _has(payload, "file_id", job.file_id)
        and (payload.get("_version") in (None, []) or _has_below(payload, "_version", job.version))
    )


def _values(payload: dict[str, Any], name: str) -> list[Any]:
    value = payload.get(name)
    return value if isinstance(value, list) else [value]


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _has(payload: dict[str, Any], name: str, wanted: UserId) -> bool:
    return any(_same(value, wanted) for value in _values(payload, name))


def _has_below(payload: dict[str, Any], name: str, limit: int) -> bool:
    return any(type(value) in (int, float) and value < limit for value in _values(payload, name))


def stored(world: World) -> World:
    """Return the world without empty collections."""
    return {ref: points for ref, points in world.items() if points}


def batch_of(jobs: list[WriteJob], most: int) -> list[WriteJob]:
    """Return the jobs at the head that form one batch."""
    cuts = Cuts()
    for position, job in enumerate(jobs[:most]):
        if cuts.must_end_before(job):
            return jobs[:position]
    return jobs[:most]


# Random points and jobs.


class Maker:
    """Makes random jobs and worlds.

    ``refs`` are the collections that jobs name. ``odd`` are the fields to which others write values of any type. With
    ``moving``, no patch names ids, and most change the field by which they select.
    """

    def __init__(
        self,
        chance: random.Random,
        refs: tuple[CollectionRef, ...] = (*REFS, NEW),
        users: Mapping[str, tuple[UserId, ...]] = USERS,
        odd: Collection[str] = (*VALUES, "user_id", "_point_id", "_version"),
        *,
        moving: bool = False,
    ) -> None:
        self._chance = chance
        self._refs = refs
        self._users = users
        self._odd = odd
        self._number = 0
        few = chance.random() < 0.5  # so that patches change what others select
        self._weights = (4, 2, 2, 12, 1) if few else (7, 2, 3, 5, 2)
        if moving:
            self._weights = (6, 0, 3, 5, 1)
        self._moving = moving
        self._patched = chance.sample(list(VALUES), 3) if few else list(VALUES)

    def world(self) -> World:
        """Return collections with points that jobs, the app's own client, or others wrote."""
        return {ref: self._points(ref) for ref in self._refs if ref != NEW}

    def jobs(self, count: int) -> list[WriteJob]:
        return [self.job() for _ in range(count)]

    def job(self) -> WriteJob:
        ref = self._chance.choice(self._refs)
        user_id = self._chance.choice(self._users[ref.kind])
        makes = (self._upsert, self._delete, self._purge, self._patch, self._prune)
        make = self._chance.choices(makes, self._weights)[0]
        return checked(make(ref, user_id), LIMITS)

    def _points(self, ref: CollectionRef) -> Points:
        points: Points = {}
        for user_id in self._users[ref.kind]:
            for point_id in self._ids(ref, user_id):
                if self._chance.random() < 0.5:
                    points[primary_id(point_id)] = self._stored(ref, user_id, point_id)
                if self._chance.random() < 0.2:  # written by an old client, under an integer
                    points[self._chance.randrange(1, 2**40)] = self._stored(ref, user_id, point_id)
        return points

    def _stored(self, ref: CollectionRef, user_id: UserId, point_id: str) -> dict[str, Any]:
        payload = {**self._fields(KINDS[ref.kind]), "user_id": user_id, "_point_id": point_id, "n": "stored"}
        if self._chance.random() < 0.25:  # written by somebody else
            kept = {"user_id", "_point_id"}.difference(self._odd)
            names = sorted({*payload, *self._odd} - kept)
            for name in self._chance.sample(names, min(3, len(names))):
                if name in self._odd:
                    payload[name] = self._chance.choice(NOBODY if name == "user_id" else ODD)
                elif self._chance.random() < 0.1:
                    payload[name] = self._chance.choice((None, []))
            payload = {n: value for n, value in payload.items() if n in kept or self._chance.random() < 0.9}
        return payload

    def _ids(self, ref: CollectionRef, user_id: UserId) -> list[str]:
        return [f"{KINDS[ref.kind].id_prefix}_{user_id}_{number}" for number in range(NUMBERS)]

    def _some_ids(self, ref: CollectionRef, user_id: UserId) -> list[str]:
        return self._chance.sample(self._ids(ref, user_id), self._chance.choice((1, 1, 2)))

    def _fields(self, kind: Kind) -> dict[str, Any]:
        chance, found = self._chance, {}
        for name, values in VALUES.items():
            if name in ("active", "text") or chance.random() < 0.3:
                continue
            if name in kind.payload_types or chance.random() < 0.3:
                found[name] = chance.choice(values)
            elif chance.random() < 0.3:
                found[name] = chance.choice(ODD)
            if chance.random() < 0.1:
                found[name] = None
        if chance.random() < 0.6:
            found["_version"] = chance.choice((1, 2, 3))
        elif "_version" not in kind.payload_types and chance.random() < 0.2:
            found["_version"] = chance.choice(ODD)
        return found

    def _upsert(self, ref: CollectionRef, user_id: UserId) -> Upsert:
        self._number += 1
        payload = {**self._fields(KINDS[ref.kind]), "n": self._number}
        return Upsert(
            kind=ref.kind,
            namespace=ref.namespace,
            user_id=user_id,
            point_id=self._chance.choice(self._ids(ref, user_id)),
            vector=VECTOR,
            payload=payload,
        )

    def _namespace_or_all(self, ref: CollectionRef) -> str | None:
        return ALL_NAMESPACES if KINDS[ref.kind].namespaced and self._chance.random() < 0.3 else ref.namespace

    def _delete(self, ref: CollectionRef, user_id: UserId) -> Delete:
        namespace = self._namespace_or_all(ref)
        return Delete(kind=ref.kind, namespace=namespace, user_id=user_id, point_ids=self._some_ids(ref, user_id))

    def _purge(self, ref: CollectionRef, user_id: UserId) -> Purge:
        chance, kind, options = self._chance, KINDS[ref.kind], dict[str, Any]()
        if chance.random() < 0.85:
            options["kind"] = ref.kind
            if ref.namespace and chance.random() < 0.5:
                options["namespace"] = ref.namespace
            options |= {name: chance.choice(VALUES[name]) for name in kind.narrowing if chance.random() < 0.5}
        typed = "kind" not in options or "created" in kind.payload_types
        if typed and chance.random() < 0.2:
            options["before"] = chance.choice((1, 2, 3))
        if typed and chance.random() < 0.2:
            options["other_than_model"] = chance.choice((1, 2))
        return Purge(user_id=user_id, **options)

    def _patch(self, ref: CollectionRef, user_id: UserId) -> Patch:
        chance, kind = self._chance, KINDS[ref.kind]
        target: dict[str, Any] = {"namespace": ref.namespace}
        names = chance.sample(self._patched, chance.choice((1, 1, 2, 3)))
        if not self._moving and chance.random() < 0.5:
            target = {"namespace": self._namespace_or_all(ref), "point_ids": self._some_ids(ref, user_id)}
        else:
            name = chance.choice(kind.narrowing)
            target[name] = chance.choice(VALUES[name])
            if self._moving and chance.random() < 0.7:
                names = [name]
        unset = [name for name in names if name not in kind.payload_defaults and chance.random() < 0.3]
        set_ = {name: chance.choice(VALUES[name]) for name in names if name not in unset}
        return Patch(kind=ref.kind, user_id=user_id, set=set_, unset=unset, **target)

    def _prune(self, ref: CollectionRef, user_id: UserId) -> Prune | Upsert:
        if "file_id" not in KINDS[ref.kind].narrowing:
            return self._upsert(ref, user_id)
        return Prune(
            kind=ref.kind,
            namespace=ref.namespace,
            user_id=user_id,
            file_id=self._chance.choice((1, 2)),
            version=self._chance.choice((1, 2, 3)),
        )
