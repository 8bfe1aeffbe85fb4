"""`AdminQueue`: reads of all users, for tools of the operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from memory_worker.client.connected import Connected
from memory_worker.contract import CountAll, FacetAll, FacetCounts, ListAll, Page
from memory_worker.contract.building import refuse_none, to_timeout_ms
from memory_worker.contract.kinds import KindName

ADMIN_TIMEOUT_S = 30.0


class AdminQueue(Connected):
    """Reads of the points of all users. They have a queue and a Redis user of their own.

    An app that serves users does not need it. Search workers answer these reads with ``ADMIN_CONCURRENCY``, a few at a
    time. All methods raise the same errors as those of `memory_worker.MemoryQueue`.
    """

    async def list(
        self,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
        fields: Iterable[str] | UnsetType = UNSET,
        where: Mapping[str, Any] | None = None,
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
            kind=kind,
            namespace=namespace,
            limit=limit,
            cursor=cursor,
            vectors=vectors,
            fields=fields,  # type: ignore[arg-type]  # any iterable becomes a list
            **_selection(where, active, timeout, category=category, group_key=group_key, file_id=file_id),
        )
        reply = await self._producer.call(job)
        return Page(reply.points or [], reply.cursor)

    async def count(
        self,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        where: Mapping[str, Any] | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = ADMIN_TIMEOUT_S,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> int:
        """Return the exact number of points. The namespace ``*`` is the base collection and every namespace."""
        selection = _selection(where, active, timeout, category=category, group_key=group_key, file_id=file_id)
        return (await self._producer.call(CountAll(kind=kind, namespace=namespace, **selection))).count or 0

    async def facet(
        self,
        by: str,
        *,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int = 1000,
        where: Mapping[str, Any] | None = None,
        active: bool | Literal["any"] | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = ADMIN_TIMEOUT_S,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> FacetCounts:
        """Return how many points have each value of the indexed field ``by``, the most frequent value first."""
        selection = _selection(where, active, timeout, category=category, group_key=group_key, file_id=file_id)
        job = FacetAll(kind=kind, namespace=namespace, by=by, limit=limit, **selection)
        return (await self._producer.call(job)).facet or FacetCounts([])


def _selection(where: Any, active: Any, timeout: Any, **narrowing: Any) -> dict[str, Any]:
    refuse_none(narrowing, "leave it out to find more")
    return {
        "where": {} if where is None else where,
        "active": active,
        "timeout_ms": to_timeout_ms(timeout),
        **narrowing,
    }
