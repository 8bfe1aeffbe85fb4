"""The load: seeded jobs of many users, alike in every run."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

from worker.contract import Upsert

_DISTINCT_VECTORS = 512
_WORDS = ("prefers", "window", "seats", "tea", "mornings", "trains", "quiet", "rooms", "early", "flights")
_CATEGORIES = ("personal", "preferences", "work", "travel")


class Load:
    """Jobs and queries that depend only on the seed. Vectors repeat after 512; their content costs nothing extra."""

    def __init__(self, *, seed: int, users: int, dimension: int) -> None:
        chance = random.Random(seed)
        self._users = users
        self._vectors = [
            array("f", (chance.gauss(0, 1) for _ in range(dimension))).tobytes() for _ in range(_DISTINCT_VECTORS)
        ]

    def vector(self, number: int) -> bytes:
        """Return the vector of the write or query of this number."""
        return self._vectors[number % _DISTINCT_VECTORS]

    def user(self, number: int) -> int:
        """Return the user of the write or query of this number."""
        return number % self._users + 1

    def write(self, number: int) -> Upsert:
        """Return the write of this number; numbers apart are points apart."""
        user = self.user(number)
        payload = {
            "category": _CATEGORIES[number % len(_CATEGORIES)],
            "key": f"fact_{number}",
            "value": " ".join(_WORDS[(number + step) % len(_WORDS)] for step in range(8)),
            "source": "chat",
            "message_id": number,
            "created": 1_700_000_000 + number,
            "updated": 1_700_000_000 + number,
            "active": True,
        }
        return Upsert(user_id=user, point_id=f"mem_{user}_{number}", vector=self.vector(number), payload=payload)

    def writes(self, first: int, count: int) -> Iterator[Upsert]:
        """Yield the writes from ``first`` on."""
        return (self.write(number) for number in range(first, first + count))
