"""Read points, count them, and describe collections."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from memory_worker.client.opened import Opened
from memory_worker.client.selecting import Conditions, common_fields, selecting_fields
from memory_worker.contract import (
    CollectionInfo,
    Count,
    Facet,
    FacetCounts,
    FileInfo,
    Files,
    Get,
    Hit,
    Info,
    List,
    Page,
    Point,
    ReadJob,
    Receipt,
    Reply,
    Search,
    SearchMany,
    SearchResult,
    Stats,
    UserStats,
)
from memory_worker.contract.arguments import to_list
from memory_worker.contract.building import (
    to_search,
    to_timeout_ms,
)
from memory_worker.contract.fields import MAX_SEARCHES
from memory_worker.contract.kinds import KindName, UserId


class Reading(Opened):
    """The methods that read. An error is raised, and never an empty result.

    All of them raise `InvalidJob`, `QueueFull` if too many reads wait, `QueueUnavailable`, or `ReadFailed` if there is
    no answer within ``timeout`` seconds (at most 60) or the answer is an error. With ``after``, they first wait until
    the job of that receipt has been applied, within the same time, and raise as `wait_applied`.

    ``category``, ``group_key`` and ``file_id`` narrow a read if given, and must not be ``None``. ``where`` maps fields
    to values or to conditions, all of which must hold. ``fields`` are the payload fields to return, by default all.
    Without ``kind``, a read with ``group_key`` or ``file_id`` is about documents, and any other about memories.
    """

    async def search(
        self,
        *,
        user_id: UserId,
        vector: Any = UNSET,
        like: str | UnsetType = UNSET,
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        namespaces: Iterable[str | None] | UnsetType = UNSET,
        limit: int | None = None,
        min_score: float | None = None,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        not_category: Iterable[str] = (),
        exclude: Iterable[str] = (),
        where: Conditions | None = None,
        fields: Iterable[str] | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> builtins.list[Hit]:
        """Return the user's points nearest to ``vector``, best first.

        With ``like`` instead of ``vector``, return the points nearest to that point, without the point itself, or
        nothing if it does not exist. ``limit`` is 1 to 200. The defaults of ``limit`` and ``min_score`` are 5 and 0.7
        for memories, 10 and 0.3 for documents. If scores are distances (euclid, manhattan), ``min_score`` is the
        largest distance. ``namespaces`` are searched at the same time, and ``None`` is the base collection. Points in
        ``exclude`` and those of ``not_category`` are left out.
        """
        left_out = {"not_category": not_category, "exclude": exclude}
        options: dict[str, Any] = {"namespaces": namespaces, "limit": limit, "min_score": min_score, **left_out}
        selected = selecting_fields(kind, category=category, group_key=group_key, file_id=file_id, where=where)
        common = common_fields(fields=fields, after=after, timeout=timeout)
        job = Search(user_id=user_id, vector=vector, like=like, namespace=namespace, **options, **selected, **common)
        return (await self._read(job)).hits or []

    async def search_many(
        self,
        searches: Iterable[Search | Mapping[str, Any]],
        *,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> builtins.list[SearchResult]:
        """Run up to 16 searches at once. Return the hits or the error of each, in their order.

        Each is a `Search` or a map of the arguments of `search`, without ``after`` and ``timeout``.
        """
        found = to_list("searches", searches, of="searches", max_items=MAX_SEARCHES)
        jobs = [to_search(f"searches[{position}]", search) for position, search in enumerate(found)]
        job = SearchMany(searches=jobs, **common_fields(after=after, timeout=timeout))
        return (await self._read(job)).results or []

    async def get(
        self,
        *,
        user_id: UserId,
        point_ids: Sequence[str],
        kind: KindName = "memory",
        namespace: str | None = None,
        vectors: bool = False,
        fields: Iterable[str] | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> builtins.list[Point]:
        """Return the points with these ids that exist, in this order.

        With ``vectors``, at most 250 points are allowed. A vector is float32 little-endian bytes.
        """
        job = Get(
            user_id=user_id,
            point_ids=point_ids,  # type: ignore[arg-type]  # any iterable becomes a list
            kind=kind,
            namespace=namespace,
            vectors=vectors,
            **common_fields(fields=fields, after=after, timeout=timeout),
        )
        return (await self._read(job)).points or []

    async def list(
        self,
        *,
        user_id: UserId,
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        order: Literal["id", "created", "updated"] = "id",
        limit: int = 100,
        cursor: str | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        where: Conditions | None = None,
        fields: Iterable[str] | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> Page:
        """Return a page of the user's points, in the order of their ids or newest first.

        Pass the ``cursor`` of a page to get the next one. It is ``None`` for the last page. A page has up to ``limit``
        points (1 to 1,000) and ends early if they have more than 1 MiB. By default, points that are not active are
        left out.
        """
        selected = selecting_fields(
            kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        job = List(
            user_id=user_id,
            namespace=namespace,
            order=order,
            limit=limit,
            cursor=cursor,
            **selected,
            **common_fields(fields=fields, after=after, timeout=timeout),
        )
        reply = await self._read(job)
        return Page(reply.points or [], reply.cursor)

    async def count(
        self,
        *,
        user_id: UserId,
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        where: Conditions | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> int:
        """Return the exact number of the user's points.

        The namespace ``*`` is the base collection and every namespace.
        """
        selected = selecting_fields(
            kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        job = Count(user_id=user_id, namespace=namespace, **selected, **common_fields(after=after, timeout=timeout))
        return (await self._read(job)).count or 0

    async def facet(
        self,
        *,
        user_id: UserId,
        by: str,
        limit: int = 1000,
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        where: Conditions | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> FacetCounts:
        """Return how many of the user's points have each value of the indexed field ``by``.

        The most frequent value comes first. ``limit`` is 1 to 10,000. The namespace ``*`` is the base collection and
        every namespace.
        """
        selected = selecting_fields(
            kind, by, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        common = common_fields(after=after, timeout=timeout)
        job = Facet(user_id=user_id, by=by, limit=limit, namespace=namespace, **selected, **common)
        return (await self._read(job)).facet or FacetCounts([])

    async def files(
        self,
        *,
        user_id: UserId,
        limit: int = 10_000,
        kind: KindName = "document",
        namespace: str | None = None,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        where: Conditions | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> builtins.list[FileInfo]:
        """Return the user's files, with the number of chunks and the group of each.

        The files with the most chunks come first. If there are more than ``limit`` (1 to 10,000), the others are left
        out.
        """
        selected = selecting_fields(kind, group_key=group_key, file_id=file_id, where=where)
        job = Files(
            user_id=user_id, limit=limit, namespace=namespace, **selected, **common_fields(after=after, timeout=timeout)
        )
        return (await self._read(job)).files or []

    async def stats(
        self,
        *,
        user_id: UserId,
        kind: KindName | UnsetType = UNSET,
        namespace: str | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        where: Conditions | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> UserStats:
        """Return how many points the user has, and how many by category, group, file and embedding model."""
        selected = selecting_fields(
            kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        job = Stats(user_id=user_id, namespace=namespace, **selected, **common_fields(after=after, timeout=timeout))
        return (await self._read(job)).stats or UserStats(points=0, by={}, absent={})

    async def info(self, *, timeout: float = 5.0) -> builtins.list[CollectionInfo]:  # noqa: ASYNC109  # as above
        """Return the state of the collections in Qdrant."""
        return (await self._read(Info(timeout_ms=to_timeout_ms(timeout)))).collections or []

    async def _read(self, job: ReadJob) -> Reply:
        return await self._producer.call(job)
