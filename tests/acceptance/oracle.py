"""An oracle applies write jobs one by one to a dictionary, and so knows what Qdrant must contain at the end."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

from msgspec import UNSET

from memory_worker.contract import Delete, Purge, Upsert, WriteJob, matches

NAMESPACES = (None, "feedback_false_positive", "feedback_positive")
CATEGORIES = ("personal", "work", "travel")
GROUPS = ("handbook", "notes")
POINTS_PER_USER = 40

Place = tuple[str, str | None, str]
"""kind, namespace, point id"""


class Oracle:
    """The state of all points: for each place, the number of the job that wrote it last."""

    def __init__(self) -> None:
        self.points: dict[Place, int] = {}
        self._payloads: dict[Place, dict[str, object]] = {}

    def apply(self, job: WriteJob) -> None:
        match job:
            case Upsert():
                place = (job.kind, job.namespace, job.point_id)
                self.points[place] = int(job.payload["key" if job.kind == "memory" else "text"])
                self._payloads[place] = {"user_id": job.user_id, **job.payload}
            case Delete():
                for point_id in job.point_ids:
                    self._remove((job.kind, job.namespace, point_id))
            case Purge():
                for place in [place for place in self.points if self._matches(place, job)]:
                    self._remove(place)

    def _remove(self, place: Place) -> None:
        self.points.pop(place, None)
        self._payloads.pop(place, None)

    def _matches(self, place: Place, job: Purge) -> bool:
        kind, namespace, _ = place
        payload = self._payloads[place]
        return (
            payload["user_id"] == job.user_id
            and job.only_kind in (None, kind)
            and job.only_namespace in (None, namespace)
            and matches(payload, job.narrowing)
        )


def random_jobs(chance: random.Random, users: list[int], count: int, *, dimension: int) -> Iterator[WriteJob]:
    """Yield ``count`` jobs of these users: mostly upserts, some deletes and purges."""
    for number in range(count):
        user = chance.choice(users)
        draw = chance.random()
        if draw < 0.78:
            yield _upsert(chance, user, number, dimension)
        elif draw < 0.92:
            yield _delete(chance, user)
        else:
            yield _purge(chance, user)


def _upsert(chance: random.Random, user: int, number: int, dimension: int) -> Upsert:
    vector = array("f", (chance.uniform(-1, 1) for _ in range(dimension))).tobytes()
    if chance.random() < 0.2:
        file_id = chance.randrange(4)
        return Upsert(
            kind="document",
            user_id=user,
            point_id=f"doc_{user}_{file_id}_{chance.randrange(10)}",
            vector=vector,
            payload={"file_id": file_id, "group_key": chance.choice(GROUPS), "text": str(number)},
        )
    return Upsert(
        user_id=user,
        namespace=chance.choice(NAMESPACES),
        point_id=f"mem_{user}_{chance.randrange(POINTS_PER_USER)}",
        vector=vector,
        payload={"category": chance.choice(CATEGORIES), "key": str(number)},
    )


def _delete(chance: random.Random, user: int) -> Delete:
    if chance.random() < 0.2:
        ids = [f"doc_{user}_{chance.randrange(4)}_{chance.randrange(10)}" for _ in range(chance.randint(1, 4))]
        return Delete(kind="document", user_id=user, point_ids=ids)
    ids = [f"mem_{user}_{chance.randrange(POINTS_PER_USER)}" for _ in range(chance.randint(1, 4))]
    return Delete(user_id=user, namespace=chance.choice(NAMESPACES), point_ids=ids)


def _purge(chance: random.Random, user: int) -> Purge:
    return chance.choice(
        [
            Purge(user_id=user),
            Purge(user_id=user, kind="memory"),
            Purge(user_id=user, kind="memory", namespace=chance.choice(NAMESPACES) or UNSET),
            Purge(user_id=user, kind="memory", category=chance.choice(CATEGORIES)),
            Purge(user_id=user, kind="memory", namespace="feedback_positive", category=chance.choice(CATEGORIES)),
            Purge(user_id=user, kind="document", file_id=chance.randrange(4)),
            Purge(user_id=user, kind="document", group_key=chance.choice(GROUPS)),
        ]
    )
