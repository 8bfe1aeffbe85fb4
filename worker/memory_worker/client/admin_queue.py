"""`AdminQueue`: reads of all users, for tools of the operator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, UnsetType

from memory_worker.client.connected import Connected
from memory_worker.client.opened import Opened
from memory_worker.client.selecting import Conditions, common_fields, selecting_fields
from memory_worker.contract import CountAll, FacetAll, FacetCounts, ListAll, Page
from memory_worker.contract.kinds import KindName

ADMIN_TIMEOUT_S = 30.0


class AdminReads(Opened):
    """The methods that read points of all users, for a producer."""

    async def list(
        self,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
        fields: Iterable[str] | None = None,
        where: Conditions | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = ADMIN_TIMEOUT_S,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> Page:
        """Return a page of points in the order of their ids. ``limit`` is 1 to 1,000, and 1 to 250 with vectors.

        ``cursor`` is that of the page before. A page ends early if the answer becomes too large.
        """
        job = ListAll(
            namespace=namespace,
            limit=limit,
            cursor=cursor,
            vectors=vectors,
            **selecting_fields(
                kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
            ),
            **common_fields(fields=fields, timeout=timeout),
        )
        reply = await self._producer.call(job)
        return Page(reply.points or [], reply.cursor)

    async def count(
        self,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        where: Conditions | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = ADMIN_TIMEOUT_S,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> int:
        """Return the exact number of points. The namespace ``*`` is the base collection and every namespace."""
        selected = selecting_fields(
            kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        job = CountAll(namespace=namespace, **selected, **common_fields(timeout=timeout))
        return (await self._producer.call(job)).count or 0

    async def facet(
        self,
        by: str,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int = 1000,
        where: Conditions | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = ADMIN_TIMEOUT_S,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> FacetCounts:
        """Return how many points have each value of the indexed field ``by``, the most frequent value first."""
        selected = selecting_fields(
            kind, active=active, category=category, group_key=group_key, file_id=file_id, where=where
        )
        job = FacetAll(namespace=namespace, by=by, limit=limit, **selected, **common_fields(timeout=timeout))
        return (await self._producer.call(job)).facet or FacetCounts([])


class AdminQueue(Connected, AdminReads):
    """Reads of the points of all users. They have their own queue and Redis user.

    An app that serves users does not need it. Search workers answer these reads with ``ADMIN_CONCURRENCY``, a few at a
    time. All methods raise the same errors as those of `memory_worker.MemoryQueue`.
    """
