"""The operations that write points: in a batch, or one per call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import qdrant_edge as edge
from qdrant_client import grpc as q

from memory_worker.embedded import convert
from memory_worker.embedded.filters import filter_from_proto
from memory_worker.embedded.refusals import Refused, bad_argument, empty_update, engine_refusal, not_served, serve_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memory_worker.embedded.shards import Collection

POINTS_PER_PART = 16
"""An upsert is split into parts of this size. Everything else waits while Edge applies a part."""

_UPDATE_MODES = {
    q.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    q.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    q.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}
_Point = TypeVar("_Point")


def apply_one_of_batch(collection: Collection, operation: q.PointsUpdateOperation, *, wait: bool) -> q.UpdateResult:
    """Apply one operation of a batch."""
    kind = operation.WhichOneof("operation")
    if kind is None:
        raise bad_argument("Operation is missing")
    if kind not in _OPERATIONS:
        raise not_served(f"the update operation {kind}")
    request = getattr(operation, kind)
    check_served(kind, request)
    return apply(collection, kind, request, wait=wait)


def check_served(kind: str, request: Any, also: Sequence[str] = ()) -> None:
    """Refuse an operation with a field that is neither served nor in ``also``."""
    _, served = _OPERATIONS[kind]
    serve_only(request, (*served, *also))


def apply(collection: Collection, kind: str, request: Any, *, wait: bool) -> q.UpdateResult:
    """Apply an operation. ``kind`` is its name in a batch. In a call of its own, it has the same fields."""
    operation, _ = _OPERATIONS[kind]
    return operation(collection, request, wait=wait)


def update(collection: Collection, operation: edge.UpdateOperation, *, wait: bool, points: int = 1) -> q.UpdateResult:
    """Apply an operation of Edge that writes about ``points`` points. With ``wait``, it has an error if that fails."""
    number = collection.next_operation_id()
    try:
        collection.update(operation, points)
    except Refused:
        raise
    except Exception as error:
        if wait:
            raise engine_refusal(error) from error
        # Without wait, a server has already answered by the time the operation fails.
    status = q.UpdateStatus.Completed if wait else q.UpdateStatus.Acknowledged
    return q.UpdateResult(operation_id=number, status=status)


def _upsert(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    if not request.points:
        raise empty_update()
    points: list[edge.Point] = []
    for part in _parts(request.points):
        collection.read_priority.wait_for_reads()
        points += convert.points_from_proto(part, collection.dimension)
    condition = filter_from_proto(request.update_filter) if request.HasField("update_filter") else None
    mode = _UPDATE_MODES[request.update_mode]
    for part in _parts(points):
        collection.read_priority.wait_for_reads()
        operation = edge.UpdateOperation.upsert_points(part, condition=condition, update_mode=mode)
        result = update(collection, operation, wait=wait, points=len(part))
    return result


def _parts(points: Sequence[_Point]) -> Iterator[list[_Point]]:
    """Split points into parts that take about a millisecond to convert or to apply."""
    return (list(points[first : first + POINTS_PER_PART]) for first in range(0, len(points), POINTS_PER_PART))


def _delete(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    return _update_points(
        collection,
        request,
        edge.UpdateOperation.delete_points,
        edge.UpdateOperation.delete_points_by_filter,
        wait=wait,
    )


def _clear_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    return _update_points(
        collection,
        request,
        edge.UpdateOperation.clear_payload,
        edge.UpdateOperation.clear_payload_by_filter,
        wait=wait,
    )


def _set_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    arguments = convert.payload_from_proto(request.payload), request.key if request.HasField("key") else None
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.set_payload(ids, *arguments),
        lambda selected: edge.UpdateOperation.set_payload_by_filter(selected, *arguments),
        wait=wait,
    )


def _overwrite_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    payload = convert.payload_from_proto(request.payload)
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.overwrite_payload(ids, payload),
        lambda selected: edge.UpdateOperation.overwrite_payload_by_filter(selected, payload),
        wait=wait,
    )


def _delete_payload(collection: Collection, request: Any, *, wait: bool) -> q.UpdateResult:
    keys = list(request.keys)
    return _update_selected(
        collection,
        request,
        lambda ids: edge.UpdateOperation.delete_payload(ids, keys),
        lambda selected: edge.UpdateOperation.delete_payload_by_filter(selected, keys),
        wait=wait,
    )


def _update_points(
    collection: Collection,
    request: Any,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
    *,
    wait: bool,
) -> q.UpdateResult:
    if not request.HasField("points"):
        raise bad_argument("PointSelector is missing")
    return update(collection, _for_selected(request.points, by_ids, by_filter), wait=wait)


def _update_selected(
    collection: Collection,
    request: Any,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
    *,
    wait: bool,
) -> q.UpdateResult:
    if not request.HasField("points_selector"):
        raise bad_argument("points_selector is expected")
    return update(collection, _for_selected(request.points_selector, by_ids, by_filter), wait=wait)


def _for_selected(
    selector: q.PointsSelector,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
) -> edge.UpdateOperation:
    match selector.WhichOneof("points_selector_one_of"):
        case "points":
            if not selector.points.ids:
                raise empty_update()
            return by_ids(convert.ids_from_proto(selector.points.ids))
        case "filter":
            return by_filter(filter_from_proto(selector.filter))
        case _:
            raise bad_argument("Malformed PointsSelector type")


# By the name in a batch: the function, and the fields that it serves.
_OPERATIONS: dict[str, tuple[Callable[..., q.UpdateResult], tuple[str, ...]]] = {
    "upsert": (_upsert, ("points", "update_filter", "update_mode")),
    "delete_points": (_delete, ("points",)),
    "set_payload": (_set_payload, ("payload", "points_selector", "key")),
    "overwrite_payload": (_overwrite_payload, ("payload", "points_selector")),
    "delete_payload": (_delete_payload, ("keys", "points_selector")),
    "clear_payload": (_clear_payload, ("points",)),
}
