"""Points that are stored twice: under their UUID and, by an older version of the app, under an integer.

Both copies carry the same logical id. A write or a delete by this worker removes the older one.
"""

from __future__ import annotations

from collections.abc import Iterable

from qdrant_client import grpc as q

from memory_worker.contract import Hit, Point
from memory_worker.contract.kinds import POINT_ID_FIELD, primary_id
from memory_worker.store.values import payload_of


def best_of_each(found: Iterable[q.ScoredPoint]) -> list[Hit]:
    """Return points that come best first, each logical id once."""
    hits: dict[str, Hit] = {}
    for point in found:
        payload = payload_of(point.payload)
        point_id = str(payload.get(POINT_ID_FIELD) or point.id.uuid or point.id.num)
        if point_id not in hits:
            hits[point_id] = Hit(point_id, point.score, payload)
    return list(hits.values())


def add_newest(points: dict[str, Point], found: Iterable[q.RetrievedPoint]) -> None:
    """Add points by their logical ids; of two copies the one under its UUID is the newer."""
    for record in found:
        payload = payload_of(record.payload)
        point_id = payload[POINT_ID_FIELD]
        if point_id not in points or record.id.uuid == primary_id(point_id):
            points[point_id] = Point(point_id, payload)
