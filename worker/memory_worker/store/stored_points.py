"""Points as they are stored, under whatever primary id. Reads of all users, for repairs only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec
from qdrant_client import grpc as q

from memory_worker.contract.errors import StoreRefused
from memory_worker.contract.kinds import POINT_ID_FIELD, UserId, primary_id
from memory_worker.store.filters import any_point_id, has_id, of_user
from memory_worker.store.messages import WriteRequest
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.values import payload_of

PAGE = 250


class StoredPoint(msgspec.Struct, frozen=True):
    """A point: its primary id, which is an integer or a UUID as text, and those payload fields that were read."""

    primary_id: int | str
    payload: dict[str, Any]

    @property
    def has_integer_id(self) -> bool:
        """Whether an older version of the main app has written the point."""
        return isinstance(self.primary_id, int)


class StoredPoints:
    """The points of one collection. All methods raise `StoreError`."""

    def __init__(self, rpc: QdrantRpc, collection: str) -> None:
        self._rpc = rpc
        self._collection = collection

    async def pages(self, fields: Sequence[str]) -> AsyncIterator[list[StoredPoint]]:
        """Yield all points in the order of their primary ids: integers first, then UUIDs."""
        request = self._scroll(fields)
        while True:
            answer = await self._ask(request)
            yield _points(answer)
            if not answer.HasField("next_page_offset"):
                return
            request.offset.CopyFrom(answer.next_page_offset)

    async def with_integer_ids(self, fields: Sequence[str] = ()) -> AsyncIterator[list[StoredPoint]]:
        """Yield the points under integer ids."""
        async for page in self.pages(fields):
            found = [point for point in page if point.has_integer_id]
            if found:
                yield found
            if len(found) < len(page):
                return

    async def existing(self, primary_ids: Iterable[str]) -> set[int | str]:
        """Return those of the UUIDs under which a point is stored."""
        request = self._scroll(())
        request.filter.must.append(has_id(primary_ids))
        return {point.primary_id async for page in self._all(request) for point in _points(page)}

    async def of(self, point_ids: Sequence[str], fields: Sequence[str]) -> list[StoredPoint]:
        """Return the points with these logical ids, under any primary id."""
        request = self._scroll(fields)
        request.filter.should.append(has_id(map(primary_id, point_ids)))
        request.filter.should.append(any_point_id(point_ids))
        return [point async for page in self._all(request) for point in _points(page)]

    async def count_of(self, user_id: UserId) -> int:
        """Return how many points a user has, exactly, under any primary id."""
        wanted = q.Filter(must=of_user(user_id))
        request = q.CountPoints(collection_name=self._collection, filter=wanted, exact=True)
        answer = await self._rpc.call(f"counting in {self._collection}", self._rpc.count, request)
        return answer.result.count

    async def whole(self, point_ids: Sequence[str], *, deadline: float) -> list[q.RetrievedPoint]:
        """Return the points with these logical ids, under any primary id, with payloads and vectors.

        Raises `AnswerTooLarge` if these are too many at once.
        """
        request = self._scroll(())
        request.with_payload.enable = True
        request.with_vectors.enable = True
        request.filter.must.append(any_point_id(point_ids))
        return [point async for page in self._all(request, deadline) for point in page.result]

    def _scroll(self, fields: Sequence[str]) -> q.ScrollPoints:
        request = q.ScrollPoints(collection_name=self._collection, limit=PAGE)
        if fields:
            request.with_payload.include.fields.extend(fields)
        else:
            request.with_payload.enable = False
        return request

    async def _all(self, request: q.ScrollPoints, deadline: float | None = None) -> AsyncIterator[q.ScrollResponse]:
        while True:
            answer = await self._ask(request, deadline)
            yield answer
            if not answer.HasField("next_page_offset"):
                return
            request.offset.CopyFrom(answer.next_page_offset)

    async def _ask(self, request: q.ScrollPoints, deadline: float | None = None) -> q.ScrollResponse:
        timeout_s = None if deadline is None else max(0.001, deadline - time.monotonic())
        return await self._rpc.call(f"reading {self._collection}", self._rpc.scroll, request, timeout_s=timeout_s)


class Move(msgspec.Struct, frozen=True):
    """A request that moves points to their UUIDs, and how many points under integer ids it moves and only deletes."""

    request: WriteRequest
    moved: int
    deleted: int


def move_of(collection: str, records: Sequence[q.RetrievedPoint]) -> Move | None:
    """Return the request that moves these points to their UUIDs; ``None`` if none of them is under an integer id.

    ``records`` are all points with some logical ids. A copy under the UUID is the newer one, so it stays, and the
    others are deleted. Of several copies under integer ids, the one that was updated last is moved. The upsert comes
    first, so that a request that is applied in part loses nothing.
    """
    older = [record for record in records if record.id.HasField("num")]
    if not older:
        return None
    written = {record.id.uuid for record in records if not record.id.HasField("num")}
    newest: dict[str, q.RetrievedPoint] = {}
    for record in sorted(older, key=_updated):
        uuid = primary_id(record.payload[POINT_ID_FIELD].string_value)
        if uuid not in written:
            newest[uuid] = record
    request = q.UpdateBatchPoints(collection_name=collection, wait=True)
    request.ordering.type = q.WriteOrderingType.Strong
    if newest:
        points = request.operations.add().upsert.points
        points.extend(_moved(collection, uuid, record) for uuid, record in newest.items())
    request.operations.add().delete_points.points.points.ids.extend(record.id for record in older)
    return Move(WriteRequest.of(request), len(newest), len(older) - len(newest))


def _updated(record: q.RetrievedPoint) -> float:
    value = payload_of(record.payload).get("updated")
    return value if isinstance(value, int | float) else 0


def _moved(collection: str, uuid: str, record: q.RetrievedPoint) -> q.PointStruct:
    output = record.vectors.vector
    if record.vectors.WhichOneof("vectors_options") != "vector" or output.WhichOneof("vector") not in (None, "dense"):
        raise StoreRefused(f"collection {collection} has vectors other than one dense vector")
    point = q.PointStruct(id=q.PointId(uuid=uuid), payload=record.payload)
    point.vectors.vector.dense.data.extend(output.dense.data if output.WhichOneof("vector") else output.data)
    return point


def _points(answer: q.ScrollResponse) -> list[StoredPoint]:
    return [
        StoredPoint(record.id.num if record.id.HasField("num") else record.id.uuid, payload_of(record.payload))
        for record in answer.result
    ]
