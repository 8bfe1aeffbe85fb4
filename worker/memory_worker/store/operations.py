"""What a batch asks of one collection. Operations are applied in order."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from memory_worker.contract import Upsert
from memory_worker.contract.kinds import KindName


class CollectionRef(msgspec.Struct, frozen=True):
    """A collection as jobs name it: by kind and, for memories, namespace."""

    kind: KindName
    namespace: str | None = None


class DeleteMatching(msgspec.Struct, frozen=True):
    """Delete all points of a user whose payload has these values; no values: all of the user's points."""

    user_id: int
    where: tuple[tuple[str, str | int], ...] = ()


class DeletePoints(msgspec.Struct, frozen=True):
    """Delete points by their logical ids, under whatever primary id they are stored."""

    point_ids: tuple[str, ...]


class UpsertPoints(msgspec.Struct, frozen=True):
    """Write points, at most one of each logical id, replacing those stored under another primary id too."""

    points: tuple[Upsert, ...]


Operation: TypeAlias = DeleteMatching | DeletePoints | UpsertPoints
