"""Read points and collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from memory_worker.client.opened import Opened
from memory_worker.contract import (
    CollectionInfo,
    Get,
    Hit,
    Info,
    Point,
    Search,
)
from memory_worker.contract.building import refuse_none, to_timeout_ms
from memory_worker.contract.kinds import KindName, UserId


class Reading(Opened):
    """The methods that read. An error is raised, and never an empty result."""

    async def search(
        self,
        *,
        user_id: UserId,
        vector: Any,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int | None = None,
        min_score: float | None = None,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> list[Hit]:
        """Return the user's points nearest to ``vector``, best first.

        ``limit`` is 1 to 100. The defaults of ``limit`` and ``min_score`` are 5 and 0.7 for memories, 10 and 0.3 for
        documents. ``category``, ``group_key`` and ``file_id`` narrow the search if given, and must not be ``None``.
        Raises `InvalidJob`, `QueueFull` if too many searches wait, `QueueUnavailable`, or `ReadFailed` if there is no
        answer within ``timeout`` seconds (at most 60) or the answer is an error.
        """
        narrowing = {"category": category, "group_key": group_key, "file_id": file_id}
        refuse_none(narrowing, "leave it out to find more")
        job = Search(
            user_id=user_id,
            vector=vector,
            kind=kind,
            namespace=namespace,
            limit=limit,
            min_score=min_score,
            timeout_ms=to_timeout_ms(timeout),
            **narrowing,  # type: ignore[arg-type]  # checked with the job
        )
        return (await self._producer.call(job)).hits or []

    async def get(
        self,
        *,
        user_id: UserId,
        point_ids: Sequence[str],
        kind: KindName = "memory",
        namespace: str | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> list[Point]:
        """Return the points with these ids that exist, in this order. Raises the same errors as `search`."""
        job = Get(
            user_id=user_id,
            point_ids=point_ids,  # type: ignore[arg-type]  # any iterable becomes a list
            kind=kind,
            namespace=namespace,
            timeout_ms=to_timeout_ms(timeout),
        )
        return (await self._producer.call(job)).points or []

    async def info(self, *, timeout: float = 5.0) -> list[CollectionInfo]:  # noqa: ASYNC109  # travels with the job
        """Return the state of the collections in Qdrant. Raises the same errors as `search`."""
        return (await self._producer.call(Info(timeout_ms=to_timeout_ms(timeout)))).collections or []
