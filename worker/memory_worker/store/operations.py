"""The operations of a batch on one collection. They are applied in order."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from memory_worker.contract import Condition, Upsert, Where
from memory_worker.contract.kinds import KindName, UserId


class CollectionRef(msgspec.Struct, frozen=True):
    """A collection as jobs name it: by its kind and, for memories, by its namespace."""

    kind: KindName
    namespace: str | None = None


class DeleteMatching(msgspec.Struct, frozen=True):
    """Delete all points of a user whose payload meets these conditions; without conditions, all points of the user."""

    user_id: UserId
    where: tuple[Condition, ...] = ()


class PatchPoints(msgspec.Struct, frozen=True):
    """Change payload fields of a user's points with these logical ids, or of those that meet the conditions.

    If both ``set`` and ``unset`` are given, they are two steps. A step that changes a field of ``where`` comes last.
    """

    user_id: UserId
    point_ids: tuple[str, ...] = ()
    where: Where = ()
    set: dict[str, Any] = {}
    unset: tuple[str, ...] = ()


class DeletePoints(msgspec.Struct, frozen=True):
    """Delete points by their logical ids, under any primary id."""

    point_ids: tuple[str, ...]


class UpsertPoints(msgspec.Struct, frozen=True):
    """Write points with different logical ids. They also replace points under another primary id."""

    points: tuple[Upsert, ...]


Operation: TypeAlias = DeleteMatching | PatchPoints | DeletePoints | UpsertPoints
