"""The operations of a batch on one collection. They are applied in order."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from memory_worker.contract import Upsert
from memory_worker.contract.kinds import KindName


class CollectionRef(msgspec.Struct, frozen=True):
    """A collection as jobs name it: by its kind and, for memories, by its namespace."""

    kind: KindName
    namespace: str | None = None


class DeleteMatching(msgspec.Struct, frozen=True):
    """Delete all points of a user whose payload has these values; without values, all points of the user."""

    user_id: int
    where: tuple[tuple[str, str | int], ...] = ()


class DeletePoints(msgspec.Struct, frozen=True):
    """Delete points by their logical ids, under any primary id."""

    point_ids: tuple[str, ...]


class UpsertPoints(msgspec.Struct, frozen=True):
    """Write points with different logical ids. They also replace points under another primary id."""

    points: tuple[Upsert, ...]


Operation: TypeAlias = DeleteMatching | DeletePoints | UpsertPoints
