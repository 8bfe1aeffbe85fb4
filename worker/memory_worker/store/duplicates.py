"""Points that are stored twice: under their UUID, and under an integer id from an older version of the app.

Both copies have the same logical id. A write or a delete by this worker removes the older copy.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, UnsetType
from qdrant_client import grpc as q

from memory_worker.contract import Hit, Point
from memory_worker.contract.kinds import POINT_ID_FIELD, primary_id
from memory_worker.store.selections import only_fields
from memory_worker.store.values import payload_of, vector_of


def distinct_hits(
    found: Iterable[q.ScoredPoint], namespace: str | None = None, fields: list[str] | UnsetType = UNSET
) -> list[Hit]:
    """Return the hits, which are sorted best first, with each logical id only once."""
    hits: dict[str, Hit] = {}
    for point in found:
        payload = payload_of(point.payload)
        point_id = str(payload.get(POINT_ID_FIELD) or point.id.uuid or point.id.num)
        if point_id not in hits:
            hits[point_id] = Hit(point_id, point.score, only_fields(payload, fields), namespace)
    return list(hits.values())


def point_of(
    record: q.RetrievedPoint | q.ScoredPoint, namespace: str | None = None, fields: list[str] | UnsetType = UNSET
) -> Point:
    """Return a record of Qdrant as a point."""
    payload = payload_of(record.payload)
    point_id = str(payload.get(POINT_ID_FIELD) or record.id.uuid or record.id.num)
    return Point(point_id, only_fields(payload, fields), namespace, vector_of(record))


def add_newest(
    points: dict[str, Point],
    found: Iterable[q.RetrievedPoint | q.ScoredPoint],
    namespace: str | None = None,
    fields: list[str] | UnsetType = UNSET,
) -> None:
    """Add points to ``points`` by their logical ids. The copy under the UUID is the newer one."""
    for record in found:
        point = point_of(record, namespace, fields)
        if point.point_id not in points or record.id.uuid == primary_id(point.point_id):
            points[point.point_id] = point
