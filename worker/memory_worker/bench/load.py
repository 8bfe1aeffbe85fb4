"""The load: seeded points of many users, alike in every run and for everybody who is measured."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from memory_worker.contract import Upsert
from memory_worker.contract.kinds import MEMORY, POINT_ID_FIELD, USER_ID_FIELD, primary_id

_BASE_VECTORS = 512
_WORDS = ("prefers", "window", "seats", "tea", "mornings", "trains", "quiet", "rooms", "early", "flights")
_CATEGORIES = ("personal", "preferences", "work", "travel")
_FLOAT_BYTES = 4


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the load depends on, and nothing else. ``stock``: see `Load`."""

    seed: int
    users: int
    dimension: int
    stock: int = 0


class Load:
    """Points and queries by number. Vectors differ up to ``512 * dimension`` points, and cost next to nothing.

    The first ``stock`` points are those that are there from the beginning and that reads look for. What is written
    later belongs to as many other users, so that a search finds the same in every round.
    """

    def __init__(self, *, seed: int, users: int, dimension: int, stock: int = 0) -> None:
        chance = random.Random(seed)
        self._users = users
        self._dimension = dimension
        self._stock = stock
        self._base = [array("f", (chance.gauss(0, 1) for _ in range(dimension))) for _ in range(_BASE_VECTORS)]
        self._packed = [vector.tobytes() for vector in self._base]
        self._numbers = [vector.tolist() for vector in self._base]

    def vector(self, number: int) -> bytes:
        """Return the vector of a point, packed: one of 512, turned by one place more each time it comes up."""
        turned, packed = self._turned(number) * _FLOAT_BYTES, self._packed[number % _BASE_VECTORS]
        return packed[turned:] + packed[:turned]

    def numbers(self, number: int) -> list[float]:
        """Return the same vector as a list of numbers: what an app gets from a model."""
        turned, numbers = self._turned(number), self._numbers[number % _BASE_VECTORS]
        return numbers[turned:] + numbers[:turned]

    def user(self, number: int) -> int:
        """Return the user of a point."""
        later = self._users if number >= self._stock else 0
        return number % self._users + 1 + later

    def point_id(self, number: int) -> str:
        """Return the logical id of a point; numbers apart are points apart."""
        return f"mem_{self.user(number)}_{number}"

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
        return {
            "user_id": self.user(number),
            "point_id": self.point_id(number),
            "vector": self.numbers(number),
            "payload": self.payload(number),
        }

    def stored(self, number: int) -> dict[str, Any]:
        """Return the same point as it is stored: id, vector and payload, for somebody who writes it himself."""
        point_id = self.point_id(number)
        payload = {**self.payload(number), USER_ID_FIELD: self.user(number), POINT_ID_FIELD: point_id}
        return {"id": primary_id(point_id), "vector": self.numbers(number), "payload": payload}

    def write(self, number: int) -> Upsert:
        """Return a point as a job, its vector packed."""
        return Upsert(
            user_id=self.user(number),
            point_id=self.point_id(number),
            vector=self.vector(number),
            payload=self.payload(number),
        )

    def writes(self, first: int, count: int) -> Iterator[Upsert]:
        """Yield the points from ``first`` on as jobs."""
        return (self.write(number) for number in range(first, first + count))

    def asked(self, number: int) -> int:
        """Return the point of the stock that a read of this number asks for."""
        return number % max(1, self._stock)

    def findable(self, number: int) -> int:
        """Return how many hits a search for a point of the stock must have: all of its user's, or the usual limit."""
        of_user = len(range(number % self._users, self._stock, self._users))
        return min(MEMORY.default_limit, of_user)

    def _turned(self, number: int) -> int:
        return number // _BASE_VECTORS % self._dimension
