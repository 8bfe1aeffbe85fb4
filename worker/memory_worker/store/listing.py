"""Lists of a user's points, page by page.

A page is made in two steps: first the ids of its points, then their contents, as many as fit into a reply.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import UnsetType
from qdrant_client import grpc as q

from memory_worker.contract import List, ListAll, Page, Point
from memory_worker.contract.errors import AnswerTooLarge, StoreRefused
from memory_worker.contract.fields import MAX_NUMBER
from memory_worker.contract.kinds import POINT_ID_FIELD, primary_id
from memory_worker.store.cursors import Cursor, decode_cursor, encode_cursor, first_cursor
from memory_worker.store.duplicates import point_of
from memory_worker.store.filters import in_range
from memory_worker.store.reader import Read, Reader
from memory_worker.store.selections import NO_PAYLOAD, Selection, owned_by, selection_of, with_fields

PAGE_BYTES = 1_048_576
"""A page ends before its points have more bytes than this. A single point may have more."""
_CONTENTS_AT_ONCE = 250
_LOWEST = float(-(2**63))
_ONLY_POINT_ID = with_fields([])


Fields: TypeAlias = list[str] | UnsetType


class _Entry(NamedTuple):
    """The id of a listed point, its logical id if there is one, and the cursor of a page that begins with it."""

    id: q.PointId
    point_id: str
    place: Cursor


class _Wanted(NamedTuple):
    """What a page has of each point: fields of the payload, and the vector."""

    fields: Fields
    vectors: bool


class Listing:
    """Lists the points of a user, or of all users, in the order of their ids, or newest first.

    Between pages, points may be added and deleted. A point that stays is listed exactly once, provided that the field
    of the order does not change.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, job: List | ListAll, read: Read) -> Page:
        """Return a page of points. Of two copies of a point, only the newer one is listed.

        Raises `InvalidJob` for a wrong cursor, `StoreRefused`, `StoreUnavailable`, `AnswerTooLarge`.
        """
        selection = selection_of(job, self._reader.collections.kinds[job.kind])
        order = "id" if isinstance(job, ListAll) else job.order
        rest: Cursor | None = first_cursor(order) if job.cursor is None else decode_cursor(job.cursor, order)
        entries: list[_Entry] = []
        while rest is not None and len(entries) < job.limit:
            found, rest = await self._next(selection, rest, job.limit - len(entries), read)
            entries += await self._without_copies(selection, found, read)
        wanted = _Wanted(job.fields, isinstance(job, ListAll) and job.vectors)
        points, used = await self._contents(selection, wanted, entries, read)
        rest = entries[used].place if used < len(entries) else rest
        return Page(points, None if rest is None else encode_cursor(rest))

    async def _next(
        self, selection: Selection, place: Cursor, count: int, read: Read
    ) -> tuple[list[_Entry], Cursor | None]:
        """Return up to ``count`` entries from a place on, and the place after them."""
        if place.part == "below":
            return await self._below(selection, place, count, read)
        request = self._scroll(selection, count, _ONLY_POINT_ID)
        if place.part == "at":
            value = place.value or 0
            request.filter.must.append(in_range(place.order, gte=value, lte=value))
        elif place.part == "without":
            request.filter.must_not.append(in_range(place.order, gte=_LOWEST))
        if (offset := place.offset()) is not None:
            request.offset.CopyFrom(offset)
        answer = await self._reader.scroll(selection.ref, request, selection.user_id, read)
        entries = [_entry(record, place) for record in answer.result]
        if answer.HasField("next_page_offset"):
            return entries, place.moved(answer.next_page_offset)
        return entries, Cursor(place.order, "below", place.value) if place.part == "at" else None

    async def _below(self, selection: Selection, place: Cursor, count: int, read: Read) -> tuple[list[_Entry], Cursor]:
        """Return up to ``count`` entries with values below that of the place, newest first, and the place after them.

        Of each value, all points are returned or none. The next place is the first value that does not fit.
        """
        request = self._scroll(selection, count + 1, _ONLY_POINT_ID)
        request.order_by.key, request.order_by.direction = place.order, q.Direction.Desc
        if place.value is not None:
            request.order_by.start_from.integer = place.value - 1
        records = list((await self._reader.scroll(selection.ref, request, selection.user_id, read)).result)
        rest = Cursor(place.order, "without")
        if len(records) > count:
            value = records[-1].order_value.int
            if abs(value) >= MAX_NUMBER:
                raise StoreRefused(f"the order of {place.order!r} needs values below {MAX_NUMBER:,}, found {value:,}")
            rest = Cursor(place.order, "at", value)
            records = [record for record in records if record.order_value.int > value]
        records.sort(key=lambda record: (-record.order_value.int, record.id.uuid, record.id.num))
        return [_entry(record, Cursor(place.order, "at", record.order_value.int)) for record in records], rest

    async def _without_copies(self, selection: Selection, entries: list[_Entry], read: Read) -> list[_Entry]:
        """Return the entries without older copies: those under an integer id, if the UUID of the same point exists."""
        twins = {primary_id(entry.point_id): entry for entry in entries if not entry.id.uuid and entry.point_id}
        if not twins:
            return entries
        ids = [q.PointId(uuid=uuid) for uuid in twins]
        newer = await self._reader.scroll(
            selection.ref, self._by_ids(selection, ids, NO_PAYLOAD), selection.user_id, read
        )
        older = {twins[record.id.uuid].point_id for record in newer.result}
        return [entry for entry in entries if entry.id.uuid or entry.point_id not in older]

    async def _contents(
        self, selection: Selection, wanted: _Wanted, entries: list[_Entry], read: Read
    ) -> tuple[list[Point], int]:
        """Return the points of the first entries that fit into a page, and the number of these entries."""
        most_bytes = self._reader.limits.most_bytes
        free_bytes = PAGE_BYTES if most_bytes < 0 else min(PAGE_BYTES, most_bytes // 2)
        points: list[Point] = []
        position, count = 0, _CONTENTS_AT_ONCE
        while position < len(entries):
            chunk = entries[position : position + count]
            try:
                records = await self._records(selection, wanted, chunk, read)
            except AnswerTooLarge as error:
                if len(chunk) == 1:
                    raise
                fitting = len(chunk) * max(1, self._reader.limits.small_bytes) // error.answer_bytes
                count = max(1, min(len(chunk) // 2, fitting))
                continue
            for entry in chunk:
                record = records.get((entry.id.uuid, entry.id.num))
                if record is not None:  # it has not been deleted since
                    point = point_of(record, selection.ref.namespace, wanted.fields)
                    free_bytes -= len(msgspec.msgpack.encode(point))
                    if free_bytes < 0 and points:
                        return points, position
                    points.append(point)
                position += 1
        return points, position

    async def _records(
        self, selection: Selection, wanted: _Wanted, chunk: list[_Entry], read: Read
    ) -> dict[tuple[str, int], q.RetrievedPoint]:
        """Return the records of entries by their ids. Raises `AnswerTooLarge` if several together are too large."""
        request = self._by_ids(selection, [entry.id for entry in chunk], with_fields(wanted.fields))
        request.with_vectors.enable = wanted.vectors
        if len(chunk) == 1:
            answer = await self._reader.scroll(selection.ref, request, selection.user_id, read)
        else:
            answer = await self._reader.scroll_small(selection.ref, request, read)
        return {(record.id.uuid, record.id.num): record for record in answer.result}

    def _by_ids(self, selection: Selection, ids: list[q.PointId], payload: q.WithPayloadSelector) -> q.ScrollPoints:
        """Return the request for points of the user with these ids, whether they are selected or not."""
        chosen = q.Filter(must=[*owned_by(selection.user_id), q.Condition(has_id=q.HasIdCondition(has_id=ids))])
        return self._scroll(selection._replace(filter=chosen), len(ids), payload)

    def _scroll(self, selection: Selection, limit: int, payload: q.WithPayloadSelector) -> q.ScrollPoints:
        name = self._reader.name(selection.ref)
        return q.ScrollPoints(collection_name=name, filter=selection.filter, limit=limit, with_payload=payload)


def _entry(record: q.RetrievedPoint, place: Cursor) -> _Entry:
    return _Entry(record.id, record.payload[POINT_ID_FIELD].string_value, place.moved(record.id))
