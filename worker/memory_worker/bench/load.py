"""The load: seeded points of many users. They are the same in every run, for our paths and for the peers."""

from __future__ import annotations

import random
from array import array
from typing import Any, NamedTuple

from memory_worker.contract.kinds import MEMORY, POINT_ID_FIELD, USER_ID_FIELD, primary_id

LEAST_SCORE = -1.0
"""The ``min_score`` of searches. With it every point of the user is a hit, so no search is fast by finding nothing."""

_BASE_VECTORS = 512
_WORDS = ("prefers", "window", "seats", "tea", "mornings", "trains", "quiet", "rooms", "early", "flights")
_CATEGORIES = ("personal", "preferences", "work", "travel")


class Query(NamedTuple):
    """A search, and how many hits it must have."""

    user_id: int
    vector: list[float]
    expected: int


class Load:
    """Points and queries by number. Up to ``512 * dimension`` points have different vectors.

    The first ``stock`` points are stored before the first measurement, and reads ask for them. Later writes belong to
    other users, as many again, so that a search finds the same points in every round.
    """

    def __init__(self, *, seed: int, users: int, dimension: int, stock: int = 0) -> None:
        chance = random.Random(seed)
        self._users = users
        self._dimension = dimension
        self._stock = stock
        vectors = (array("f", (chance.gauss(0, 1) for _ in range(dimension))) for _ in range(_BASE_VECTORS))
        self._base = [vector.tolist() for vector in vectors]

    def numbers(self, number: int) -> list[float]:
        """Return the vector of a point: one of 512, rotated by one more place each time it is used again."""
        numbers, by = self._base[number % _BASE_VECTORS], number // _BASE_VECTORS % self._dimension
        return numbers[by:] + numbers[:by]

    def id(self, number: int) -> dict[str, Any]:
        """Return the user and the logical id of a point, as arguments; no two numbers share them."""
        user_id = number % self._users + 1 + (self._users if number >= self._stock else 0)
        return {"user_id": user_id, "point_id": f"mem_{user_id}_{number}"}

    def payload(self, number: int) -> dict[str, Any]:
        """Return the payload of a point, about 215 bytes."""
        return {
            "category": _CATEGORIES[number % len(_CATEGORIES)],
            "key": f"fact_{number}",
            "value": " ".join(_WORDS[(number + step) % len(_WORDS)] for step in range(8)),
            "source": "chat",
            "message_id": number,
            "created": 1_700_000_000 + number,
            "updated": 1_700_000_000 + number,
            "active": True,
        }

    def arguments(self, number: int) -> dict[str, Any]:
        """Return a point as the arguments of `MemoryQueue.upsert`, with a list of numbers as its vector."""
        return {**self.id(number), "vector": self.numbers(number), "payload": self.payload(number)}

    def primary_id(self, number: int) -> str:
        """Return the id of a point in Qdrant."""
        return primary_id(self.id(number)["point_id"])

    def stored(self, number: int) -> dict[str, Any]:
        """Return the same point as Qdrant stores it (id, vector, payload), for direct writes."""
        user_id, point_id = self.id(number).values()
        payload = {**self.payload(number), USER_ID_FIELD: user_id, POINT_ID_FIELD: point_id}
        return {"id": self.primary_id(number), "vector": self.numbers(number), "payload": payload}

    def asked(self, number: int) -> int:
        """Return the number of the stored point that the read with this number asks for."""
        return number % max(1, self._stock)

    def query(self, number: int) -> Query:
        """Return the search for a point of the stock. It must find all points of the user, up to the usual limit."""
        asked = self.asked(number)
        of_user = len(range(asked % self._users, self._stock, self._users))
        return Query(self.id(asked)["user_id"], self.numbers(asked), min(MEMORY.default_limit, of_user))
