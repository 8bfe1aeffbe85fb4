"""Push write jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from memory_worker.client.opened import Opened
from memory_worker.contract import (
    MAX_POINT_IDS,
    Delete,
    Patch,
    Prune,
    Purge,
    Receipt,
    Upsert,
    WriteJob,
    normalize_job,
)
from memory_worker.contract.arguments import to_list
from memory_worker.contract.building import implied_kind, refuse_none, rename_field, to_chunk, to_upsert
from memory_worker.contract.kinds import KindName, UserId


class Writing(Opened):
    """The methods that push write jobs.

    All of them have two options about the outcome of the job. ``ref`` is your own name of the job, of 1 to 128
    characters. It is in the outcome and in the dead letter. With ``notify``, an outcome is written when the job was
    applied. A job that can never be applied always has an outcome.
    """

    async def upsert(
        self,
        *,
        user_id: UserId,
        point_id: str,
        vector: Any,
        payload: Mapping[str, Any] | None = None,
        kind: KindName = "memory",
        namespace: str | None = None,
        ref: str | None = None,
        notify: bool = False,
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
            ref=ref,
            notify=notify,
        )
        return await self._push(job)

    async def upsert_many(self, points: Iterable[Upsert | Mapping[str, Any]]) -> list[Receipt]:
        """Push writes of many points. Each is an `Upsert` or a map of the arguments of `upsert`.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first points were stored.
        """
        found = to_list("upsert_many", points, of="upserts")
        return await self.push_many([to_upsert(f"upsert_many[{at}]", point) for at, point in enumerate(found)])

    async def patch(
        self,
        *,
        user_id: UserId,
        point_id: str | UnsetType = UNSET,
        point_ids: Sequence[str] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        set: Mapping[str, Any] | None = None,  # noqa: A002  # the name of the field
        unset: Sequence[str] = (),
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        ref: str | None = None,
        notify: bool = False,
    ) -> Receipt:
        """Push a change of some payload fields of existing points. Their vectors stay.

        Give one target: ``point_id`` or ``point_ids`` (up to 1,000), ``category``, ``group_key`` or ``file_id``. It
        must not be ``None``. ``set`` has new values, and ``unset`` the names of fields to remove. Points that do not
        exist are no error. The kind is ``document`` for a ``group_key`` or ``file_id`` if it is left out, and else
        ``memory``. With ids, the namespace ``*`` is the base collection and every namespace.
        """
        narrowing = {"category": category, "group_key": group_key, "file_id": file_id}
        refuse_none({"kind": kind, "point_id": point_id, "point_ids": point_ids, **narrowing}, Patch.null_advice)
        ids = [] if point_ids is UNSET else to_list("point_ids", point_ids, of="point ids", max_items=MAX_POINT_IDS)
        with rename_field(f"point_ids[{len(ids)}]", "point_id"):
            ids += [] if point_id is UNSET else [point_id]
            job = Patch(
                user_id=user_id,
                kind=(implied_kind(narrowing) or "memory") if kind is UNSET else kind,
                namespace=namespace,
                point_ids=ids if ids or point_ids is not UNSET else UNSET,
                set={} if set is None else set,  # type: ignore[arg-type]  # another map becomes a dict
                unset=unset,  # type: ignore[arg-type]  # any iterable becomes a list
                ref=ref,
                notify=notify,
                **narrowing,  # type: ignore[arg-type]  # checked with the job
            )
            return await self._push(job)

    async def delete(
        self,
        *,
        user_id: UserId,
        point_id: str | None = None,
        point_ids: Sequence[str] = (),
        kind: KindName = "memory",
        namespace: str | None = None,
        ref: str | None = None,
        notify: bool = False,
    ) -> Receipt:
        """Push a delete of one point or, with ``point_ids``, of up to 1,000 points.

        The namespace ``*`` is the base collection and every namespace.
        """
        ids = to_list("point_ids", point_ids, of="point ids", max_items=MAX_POINT_IDS)
        with rename_field(f"point_ids[{len(ids)}]", "point_id"):
            ids += [] if point_id is None else [point_id]
            return await self._push(
                Delete(user_id=user_id, point_ids=ids, kind=kind, namespace=namespace, ref=ref, notify=notify)
            )

    async def purge(
        self,
        *,
        user_id: UserId,
        kind: KindName | UnsetType = UNSET,
        namespace: str | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        before: int | UnsetType = UNSET,
        other_than_model: int | UnsetType = UNSET,
        ref: str | None = None,
        notify: bool = False,
    ) -> Receipt:
        """Push a delete of all points of a user.

        ``kind``, ``namespace``, ``category``, ``group_key`` and ``file_id`` narrow it if given. ``before`` (unix
        seconds) narrows it to points whose ``created`` is lower, and ``other_than_model`` to points that have another
        ``embedding_model_id``. None of them may be ``None``, so that a file whose id is not known yet does not delete
        all files.
        """
        narrowing = {"namespace": namespace, "category": category, "group_key": group_key, "file_id": file_id}
        conditions = {"before": before, "other_than_model": other_than_model}
        refuse_none({"kind": kind, **narrowing, **conditions}, Purge.null_advice)
        kind = implied_kind(narrowing) if kind is UNSET else kind
        job = Purge(user_id=user_id, kind=kind, ref=ref, notify=notify, **narrowing, **conditions)  # type: ignore[arg-type]
        return await self._push(job)

    async def prune(
        self,
        *,
        user_id: UserId,
        file_id: int,
        version: int,
        kind: KindName = "document",
        namespace: str | None = None,
        ref: str | None = None,
        notify: bool = False,
    ) -> Receipt:
        """Push a delete of the chunks of a file whose ``_version`` is lower than ``version`` or absent."""
        job = Prune(
            user_id=user_id,
            file_id=file_id,
            version=version,
            kind=kind,
            namespace=namespace,
            ref=ref,
            notify=notify,
        )
        return await self._push(job)

    async def replace_file(
        self,
        *,
        user_id: UserId,
        file_id: int,
        chunks: Iterable[Mapping[str, Any] | msgspec.Struct],
        version: int,
        kind: KindName = "document",
        namespace: str | None = None,
        ref: str | None = None,
        notify: bool = False,
    ) -> list[Receipt]:
        """Push the chunks of a file, then a delete of its older chunks. Return all receipts, that of the delete last.

        Each chunk is a map or a struct with ``point_id``, ``vector`` and ``payload``. Its payload gets ``file_id`` and
        ``version`` as ``_version``. Without chunks, the file is removed.

        ``version`` must be higher than in the run before, such as the time in milliseconds. All jobs have the ``ref``.
        Only the delete, which is applied last, has ``notify``. The old chunks are found until then.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first jobs were stored. Then the
        old chunks are still there: push all again with the same version or a higher one.
        """
        prune = Prune(
            user_id=user_id,
            file_id=file_id,
            version=version,
            kind=kind,
            namespace=namespace,
            ref=ref,
            notify=notify,
        )
        prune = normalize_job(prune)  # so that a wrong argument is named, and not the field of a chunk
        found = to_list("chunks", chunks, of="chunks")
        return await self.push_many(
            [*(to_chunk(f"chunks[{at}]", chunk, prune) for at, chunk in enumerate(found)), prune]
        )

    async def push_many(self, jobs: Iterable[WriteJob]) -> list[Receipt]:
        """Push write jobs in order. Each round trip stores up to 256 jobs or 1 MiB, and stores all of them or none.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first jobs were stored.
        """
        return await self._producer.push(jobs)

    async def _push(self, job: WriteJob) -> Receipt:
        return (await self.push_many([job]))[0]
