"""Reads of points by their ids."""

from __future__ import annotations

from qdrant_client import grpc as q

from memory_worker.contract import Get, Point
from memory_worker.store import messages
from memory_worker.store.duplicates import add_newest
from memory_worker.store.operations import CollectionRef
from memory_worker.store.reader import Read, Reader


class PointsById:
    """Reads points by their ids."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def get(self, job: Get, read: Read) -> list[Point]:
        """Return the user's points with these ids, in this order.

        If a point has two copies, the newer one counts. Raises `StoreRefused`, `StoreUnavailable`, `AnswerTooLarge`.
        """
        ref = CollectionRef(job.kind, job.namespace)
        request = messages.points_by_id(
            self._reader.name(ref), job.user_id, job.point_ids, fields=job.fields, vectors=job.vectors
        )
        found: dict[str, Point] = {}
        first = await self._reader.query(ref, messages.as_query(request), job.user_id, read)
        add_newest(found, first, ref.namespace, job.fields)
        if len(first) == request.limit:  # there may be more copies
            await self._add_all(found, ref, request, job, read)
        return [found[point_id] for point_id in dict.fromkeys(job.point_ids) if point_id in found]

    async def _add_all(
        self, found: dict[str, Point], ref: CollectionRef, request: q.ScrollPoints, job: Get, read: Read
    ) -> None:
        """Add the points of all pages."""
        while True:
            answer = await self._reader.scroll(ref, request, job.user_id, read)
            add_newest(found, answer.result, ref.namespace, job.fields)
            if not answer.HasField("next_page_offset"):
                return
            request.offset.CopyFrom(answer.next_page_offset)
