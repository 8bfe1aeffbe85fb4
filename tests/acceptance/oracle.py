"""An oracle applies write jobs one by one to a dictionary, and so knows what Qdrant must contain at the end."""

from __future__ import annotations

import random
from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from memory_worker.contract import Delete, Limits, Patch, Prune, Purge, Upsert, WriteJob, checked
from memory_worker.contract.kinds import ALL_NAMESPACES, UserId
from tests.unit.plan_world import is_narrowed_to, is_pruned, is_purged

NAMESPACES = (None, "feedback_false_positive", "feedback_positive")
CATEGORIES = ("personal", "work", "travel")
GROUPS = ("handbook", "notes")
POINTS_PER_USER = 40
FILES = range(4)
CHUNKS = range(10)
MODELS = (1, 2)
AGES = range(1, 10)

Place = tuple[str, str | None, str]
"""kind, namespace, point id"""
Payload = dict[str, Any]


class Oracle:
    """The payloads of all points."""

    def __init__(self) -> None:
        self._users: defaultdict[UserId, dict[Place, Payload]] = defaultdict(dict)

    @property
    def points(self) -> dict[Place, Payload]:
        return {place: payload for points in self._users.values() for place, payload in points.items()}

    def apply(self, job: WriteJob) -> None:
        points = self._users[job.user_id]
        match job:
            case Upsert():
                points[job.kind, job.namespace, job.point_id] = checked(job, Limits()).payload
            case Patch():
                for place, payload in points.items():
                    if _selects(job, place, payload):
                        kept = {name: value for name, value in payload.items() if name not in job.unset}
                        points[place] = kept | job.set
            case Delete() | Purge() | Prune():
                for place in [place for place, payload in points.items() if _selects(job, place, payload)]:
                    del points[place]


def _selects(job: Delete | Purge | Patch | Prune, place: Place, payload: Payload) -> bool:
    kind, namespace, point_id = place
    if job.kind not in (UNSET, kind) or job.namespace not in (UNSET, ALL_NAMESPACES, namespace):
        return False
    match job:
        case Purge():
            return is_purged(payload, job)
        case Prune():
            return is_pruned(payload, job)
        case Patch() if job.point_ids is UNSET:
            return is_narrowed_to(payload, job)
    return point_id in job.point_ids


def number_of(payload: Payload) -> int:
    """Return the number of the job that wrote a point."""
    return int(payload["key" if "key" in payload else "text"])


def random_jobs(chance: random.Random, users: list[int], count: int, *, dimension: int) -> Iterator[WriteJob]:
    """Yield ``count`` jobs of these users: mostly upserts, some of all others, and whole files that are replaced."""
    number = 0
    while number < count:
        user = chance.choice(users)
        jobs = _some_jobs(chance, user, number, dimension)[: count - number]
        yield from jobs
        number += len(jobs)


def _some_jobs(chance: random.Random, user: int, number: int, dimension: int) -> list[WriteJob]:
    draw = chance.random()
    if draw < 0.72:
        return [_upsert(chance, user, number, dimension)]
    if draw < 0.84:
        return [_delete(chance, user)]
    if draw < 0.91:
        return [_purge(chance, user)]
    if draw < 0.98:
        return [_patch(chance, user)]
    return _replacement(chance, user, number, dimension)


def _vector(chance: random.Random, dimension: int) -> bytes:
    return array("f", (chance.uniform(-1, 1) for _ in range(dimension))).tobytes()


def _upsert(chance: random.Random, user: int, number: int, dimension: int) -> Upsert:
    if chance.random() < 0.2:
        return _chunk(chance, user, chance.choice(FILES), chance.choice(CHUNKS), number, dimension)
    return Upsert(
        user_id=user,
        namespace=chance.choice(NAMESPACES),
        point_id=f"mem_{user}_{chance.randrange(POINTS_PER_USER)}",
        vector=_vector(chance, dimension),
        payload={"category": chance.choice(CATEGORIES), "key": str(number), **_age_and_model(chance)},
    )


def _chunk(
    chance: random.Random, user: int, file_id: int, index: int, number: int, dimension: int, **payload: Any
) -> Upsert:
    payload |= {"file_id": file_id, "group_key": chance.choice(GROUPS), "text": str(number), **_age_and_model(chance)}
    return Upsert(
        kind="document",
        user_id=user,
        point_id=f"doc_{user}_{file_id}_{index}",
        vector=_vector(chance, dimension),
        payload=payload,
    )


def _age_and_model(chance: random.Random) -> Payload:
    return {"created": chance.choice(AGES), "embedding_model_id": chance.choice(MODELS)}


def _replacement(chance: random.Random, user: int, number: int, dimension: int) -> list[WriteJob]:
    """Return the chunks of a new run of a file, with gaps, and its prune. Later runs have higher versions."""
    file_id, version = chance.choice(FILES), number + 1
    chunks: list[WriteJob] = [
        _chunk(chance, user, file_id, index, number, dimension, _version=version)
        for index in chance.sample(CHUNKS, chance.randint(1, len(CHUNKS)))
    ]
    return [*chunks, Prune(user_id=user, file_id=file_id, version=version)]


def _some_memories(chance: random.Random, user: int) -> dict[str, Any]:
    ids = [f"mem_{user}_{chance.randrange(POINTS_PER_USER)}" for _ in range(chance.randint(1, 4))]
    return {"user_id": user, "namespace": chance.choice((*NAMESPACES, ALL_NAMESPACES)), "point_ids": ids}


def _some_chunks(chance: random.Random, user: int) -> dict[str, Any]:
    ids = [f"doc_{user}_{chance.choice(FILES)}_{chance.choice(CHUNKS)}" for _ in range(chance.randint(1, 4))]
    return {"user_id": user, "kind": "document", "point_ids": ids}


def _delete(chance: random.Random, user: int) -> Delete:
    return Delete(**(_some_chunks if chance.random() < 0.2 else _some_memories)(chance, user))


def _patch(chance: random.Random, user: int) -> Patch:
    file_id, group, category = chance.choice(FILES), chance.choice(GROUPS), chance.choice(CATEGORIES)
    of_documents = {"user_id": user, "kind": "document"}
    return chance.choice(
        [
            Patch(**of_documents, file_id=file_id, set={"group_key": group}),
            Patch(**of_documents, file_id=file_id, set={"file_type": file_id}, unset=["group_key"]),
            Patch(**of_documents, group_key=group, set={"group_key": chance.choice(GROUPS), "start_line": file_id}),
            Patch(**_some_chunks(chance, user), set={"group_key": group, "start_line": 9}),
            Patch(**_some_memories(chance, user), set={"category": category, "active": chance.random() < 0.5}),
            Patch(**_some_memories(chance, user), set={"source": category}, unset=["embedding_model_id"]),
            Patch(
                user_id=user,
                namespace=chance.choice(NAMESPACES),
                category=category,
                set={"category": chance.choice(CATEGORIES), "source": category},
            ),
        ]
    )


def _purge(chance: random.Random, user: int) -> Purge:
    return chance.choice(
        [
            Purge(user_id=user),
            Purge(user_id=user, kind="memory"),
            Purge(user_id=user, kind="memory", namespace=chance.choice(NAMESPACES) or UNSET),
            Purge(user_id=user, kind="memory", category=chance.choice(CATEGORIES)),
            Purge(user_id=user, kind="memory", namespace="feedback_positive", category=chance.choice(CATEGORIES)),
            Purge(user_id=user, kind="document", file_id=chance.choice(FILES)),
            Purge(user_id=user, kind="document", group_key=chance.choice(GROUPS)),
            Purge(user_id=user, before=2),
            Purge(user_id=user, kind="memory", before=chance.choice(AGES), category=chance.choice(CATEGORIES)),
            Purge(user_id=user, kind="document", other_than_model=chance.choice(MODELS)),
        ]
    )
