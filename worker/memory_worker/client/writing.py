"""Push write jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from memory_worker.client.opened import Opened
from memory_worker.contract import (
    MAX_POINT_IDS,
    Delete,
    Purge,
    Receipt,
    Upsert,
    WriteJob,
)
from memory_worker.contract.arguments import to_list
from memory_worker.contract.building import implied_kind, refuse_none, rename_field, to_upsert
from memory_worker.contract.kinds import KindName, UserId


class Writing(Opened):
    """The methods that push write jobs."""

    async def upsert(
        self,
        *,
        user_id: UserId,
        point_id: str,
        vector: Any,
        payload: Mapping[str, Any] | None = None,
        kind: KindName = "memory",
        namespace: str | None = None,
    ) -> Receipt:
        """Push a write of one point. ``vector`` is float32 bytes, a buffer of floats, or numbers.

        In ``payload``, dates and times (with or without a time zone) are stored as ISO 8601 text, ``UUID`` and
        ``Decimal`` as text, enums as their value, and sets as lists. Other types that JSON does not have, such as those
        of NumPy, are refused. Raises `InvalidJob`, which names the field, or `QueueFull`. In both cases nothing is
        stored.
        """
        job = Upsert(
            user_id=user_id,
            point_id=point_id,
            vector=vector,
            payload={} if payload is None else payload,  # type: ignore[arg-type]  # another map becomes a dict
            kind=kind,
            namespace=namespace,
        )
        return (await self.push_many([job]))[0]

    async def upsert_many(self, points: Iterable[Upsert | Mapping[str, Any]]) -> list[Receipt]:
        """Push writes of many points. Each is an `Upsert` or a map of the arguments of `upsert`.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first points were stored.
        """
        found = to_list("upsert_many", points, of="upserts")
        return await self.push_many([to_upsert(f"upsert_many[{at}]", point) for at, point in enumerate(found)])

    async def delete(
        self,
        *,
        user_id: UserId,
        point_id: str | None = None,
        point_ids: Sequence[str] = (),
        kind: KindName = "memory",
        namespace: str | None = None,
    ) -> Receipt:
        """Push a delete of one point or, with ``point_ids``, of up to 1,000 points."""
        ids = to_list("point_ids", point_ids, of="point ids", max_items=MAX_POINT_IDS)
        with rename_field(f"point_ids[{len(ids)}]", "point_id"):
            ids += [] if point_id is None else [point_id]
            job = Delete(user_id=user_id, point_ids=ids, kind=kind, namespace=namespace)
            return (await self.push_many([job]))[0]

    async def purge(
        self,
        *,
        user_id: UserId,
        kind: KindName | UnsetType = UNSET,
        namespace: str | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
    ) -> Receipt:
        """Push a delete of all points of a user.

        ``kind``, ``namespace``, ``category``, ``group_key`` and ``file_id`` narrow it if given. They must not be
        ``None``, so that a file whose id is not known yet does not delete all files.
        """
        narrowing = {"namespace": namespace, "category": category, "group_key": group_key, "file_id": file_id}
        refuse_none({"kind": kind, **narrowing}, "leave it out to delete more")
        kind = implied_kind(narrowing) if kind is UNSET else kind
        return (await self.push_many([Purge(user_id=user_id, kind=kind, **narrowing)]))[0]  # type: ignore[arg-type]

    async def push_many(self, jobs: Iterable[WriteJob]) -> list[Receipt]:
        """Push write jobs in order. Each round trip stores up to 256 jobs or 1 MiB, and stores all of them or none.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first jobs were stored.
        """
        return await self._producer.push(jobs)
