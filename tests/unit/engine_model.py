"""A model of Qdrant that applies update requests to dictionaries, one operation at a time.

It reads the protobuf messages that the worker sends. `tests/integration/test_plan_on_engine.py` compares it with a real
engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from qdrant_client import grpc as q

from memory_worker.store.values import payload_of

Points: TypeAlias = dict[str | int, dict[str, Any]]
"""The payloads of a collection by their primary ids. A payload is never changed in place."""
Step: TypeAlias = Callable[[Points], None]
Check: TypeAlias = Callable[[str | int, dict[str, Any]], bool]


def steps_of(request: q.UpdateBatchPoints) -> list[Step]:
    """Return the operations of a request as functions that change the points of its collection."""
    return [_step(operation) for operation in request.operations]


def _step(operation: q.PointsUpdateOperation) -> Step:
    match operation.WhichOneof("operation"):
        case "delete_points":
            return _delete(_check(operation.delete_points.points.filter))
        case "upsert":
            return _upsert([(_id(point.id), payload_of(point.payload)) for point in operation.upsert.points])
        case "set_payload":
            set_ = operation.set_payload
            return _set(_check(set_.points_selector.filter), payload_of(set_.payload))
        case "delete_payload":
            unset = operation.delete_payload
            return _unset(_check(unset.points_selector.filter), list(unset.keys))
        case other:
            raise AssertionError(other)


def _delete(selected: Check) -> Step:
    def step(points: Points) -> None:
        for key in [key for key, payload in points.items() if selected(key, payload)]:
            del points[key]

    return step


def _upsert(written: list[tuple[str | int, dict[str, Any]]]) -> Step:
    return lambda points: points.update(written)


def _set(selected: Check, values: dict[str, Any]) -> Step:
    def step(points: Points) -> None:
        for key, payload in points.items():
            if selected(key, payload):
                points[key] = {**payload, **values}

    return step


def _unset(selected: Check, names: list[str]) -> Step:
    def step(points: Points) -> None:
        for key, payload in points.items():
            if selected(key, payload):
                points[key] = {name: value for name, value in payload.items() if name not in names}

    return step


def _id(point_id: q.PointId) -> str | int:
    return point_id.uuid or point_id.num


def _check(filter_: q.Filter) -> Check:
    must, must_not, should = (_checks(found) for found in (filter_.must, filter_.must_not, filter_.should))

    def selected(key: str | int, payload: dict[str, Any]) -> bool:
        for check in must:
            if not check(key, payload):
                return False
        for check in must_not:
            if check(key, payload):
                return False
        return not should or any(check(key, payload) for check in should)

    return selected


def _checks(conditions: Iterable[q.Condition]) -> list[Check]:
    return [_condition(condition) for condition in conditions]


def _condition(condition: q.Condition) -> Check:
    match condition.WhichOneof("condition_one_of"):
        case "has_id":
            ids = {_id(point_id) for point_id in condition.has_id.has_id}
            return lambda key, _: key in ids
        case "filter":
            return _check(condition.filter)
        case "is_empty":
            name = condition.is_empty.key
            return lambda _, payload: payload.get(name) in (None, [])
        case "field":
            return _field(condition.field)
        case other:
            raise AssertionError(other)


def _field(field: q.FieldCondition) -> Check:
    name, holds = field.key, _range(field.range) if field.HasField("range") else _match(field.match)

    def check(_: str | int, payload: dict[str, Any]) -> bool:
        value = payload.get(name)
        return any(map(holds, value)) if type(value) is list else holds(value)

    return check


def _range(bounds: q.Range) -> Callable[[Any], bool]:
    assert [field.name for field, _ in bounds.ListFields()] == ["lt"]
    lower_than = bounds.lt
    return lambda value: type(value) in (int, float) and float(value) < lower_than


def _match(match: q.Match) -> Callable[[Any], bool]:
    kind = match.WhichOneof("match_value")
    found = getattr(match, kind)
    match kind:
        case "keyword" | "integer" | "boolean":
            wanted: dict[type, set[Any]] = {type(found): {found}}
        case "keywords" | "except_keywords":
            wanted = {str: set(found.strings)}
        case "integers" | "except_integers":
            wanted = {int: set(found.integers)}
    if kind.startswith("except"):
        return lambda value: value is not None and value not in wanted.get(type(value), ())
    return lambda value: value in wanted.get(type(value), ())
