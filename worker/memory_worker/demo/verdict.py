"""The verdict: all points in Qdrant, compared with what the app asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import grpc
import msgspec
from qdrant_client import grpc as q

from memory_worker.contract import Delete, Purge, Upsert, WriteJob
from memory_worker.contract.kinds import POINT_ID_FIELD, USER_ID_FIELD
from memory_worker.contract.vectors import pack_vector, unpack_vector
from memory_worker.store.channel import CHANNEL_OPTIONS
from memory_worker.store.values import payload_of, vector_of

_PAGE = 250
_ROUNDING = 1e-4
"""How much Qdrant, which normalizes vectors, may change a number of a vector that has length 1 already."""


class Stored(msgspec.Struct, frozen=True):
    """A point as it is in Qdrant. ``vector`` is float32 little-endian bytes."""

    point_id: str
    payload: Mapping[str, object]
    vector: bytes


class Wanted(msgspec.Struct, frozen=True):
    """What the app wants in the end: the last write of each point that must be there, and the ids of deleted ones."""

    there: dict[str, Upsert]
    gone: set[str]


class Verdict(msgspec.Struct, frozen=True):
    """The result: how many points must be there and be gone, and the ids of all points that are not as they must be.

    ``missing`` points were lost. ``outdated`` ones are not those of the last write. ``unwanted`` ones were deleted and
    came back, or were never written, or are there twice.
    """

    there: int
    gone: int
    missing: list[str]
    outdated: list[str]
    unwanted: list[str]

    @property
    def points(self) -> int:
        """How many points the app ever wrote."""
        return self.there + self.gone

    @property
    def wrong(self) -> int:
        """How many points are not as they must be."""
        return len({*self.missing, *self.outdated, *self.unwanted})


def wanted_after(requests: Iterable[WriteJob]) -> Wanted:
    """Return what must be in Qdrant after these requests, in this order."""
    there: dict[str, Upsert] = {}
    ever: set[str] = set()
    for request in requests:
        match request:
            case Upsert():
                there[request.point_id] = request
                ever.add(request.point_id)
            case Delete():
                for point_id in request.point_ids:
                    there.pop(point_id, None)
            case Purge():
                there = {name: write for name, write in there.items() if write.user_id != request.user_id}
            case _:
                raise NotImplementedError(f"the demo's app asks for no {type(request).__name__}")
    return Wanted(there, ever - there.keys())


def compare(wanted: Wanted, stored: Sequence[Stored]) -> Verdict:
    """Compare each point in Qdrant with what the app wants."""
    found = {point.point_id: point for point in stored}
    twice = [point_id for point_id, count in Counter(point.point_id for point in stored).items() if count > 1]
    return Verdict(
        there=len(wanted.there),
        gone=len(wanted.gone),
        missing=sorted(wanted.there.keys() - found.keys()),
        outdated=sorted(
            point_id
            for point_id, write in wanted.there.items()
            if point_id in found and not _is_of(write, found[point_id])
        ),
        unwanted=sorted({*twice, *(found.keys() - wanted.there.keys())}),
    )


def read_all(url: str) -> list[Stored]:
    """Read all points of all collections from Qdrant itself, without a worker."""
    with grpc.insecure_channel(url.removeprefix("http://"), options=CHANNEL_OPTIONS) as channel:
        collections = q.CollectionsStub(channel).List(q.ListCollectionsRequest()).collections  # type: ignore[no-untyped-call]
        return [point for collection in collections for point in _read(channel, collection.name)]


def _read(channel: grpc.Channel, collection: str) -> list[Stored]:
    points, stored = q.PointsStub(channel), []  # type: ignore[no-untyped-call]
    request = q.ScrollPoints(collection_name=collection, limit=_PAGE)
    request.with_payload.enable = request.with_vectors.enable = True
    while True:
        page = points.Scroll(request)
        for point in page.result:
            payload = payload_of(point.payload)
            name = payload.get(POINT_ID_FIELD, point.id.uuid or point.id.num)
            stored.append(Stored(str(name), payload, vector_of(point) or b""))
        if not page.HasField("next_page_offset"):
            return stored
        request.offset.CopyFrom(page.next_page_offset)


def _is_of(write: Upsert, point: Stored) -> bool:
    """Return whether a stored point has the user, the payload and the vector of a write."""
    if point.payload.get(USER_ID_FIELD) != write.user_id:
        return False
    if any(point.payload.get(name) != value for name, value in write.payload.items()):
        return False
    written, stored = unpack_vector(pack_vector(write.vector)), unpack_vector(point.vector)
    return len(written) == len(stored) and all(
        abs(one - other) < _ROUNDING for one, other in zip(written, stored, strict=True)
    )
