"""Reads of points by their ids."""

from __future__ import annotations

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
        while True:
            answer = await self._reader.scroll(ref, request, job.user_id, read)
            add_newest(found, answer.result, ref.namespace, job.fields)
            if not answer.HasField("next_page_offset"):
                break
            request.offset.CopyFrom(answer.next_page_offset)
        return [found[point_id] for point_id in dict.fromkeys(job.point_ids) if point_id in found]
