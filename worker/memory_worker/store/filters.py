"""Conditions as Qdrant's filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET
from qdrant_client import grpc as q

from memory_worker.contract import Condition, FieldCondition
from memory_worker.contract.fields import Scalar
from memory_worker.contract.kinds import POINT_ID_FIELD, USER_ID_FIELD, UserId


def of_user(user_id: UserId, where: Iterable[Condition] = ()) -> list[q.Condition]:
    """Return the conditions of a user's points that meet ``where``."""
    return [is_value(USER_ID_FIELD, user_id), *map(condition_of, where)]


def condition_of(condition: Condition) -> q.Condition:
    """Return a condition as that of Qdrant."""
    field, value = condition.field, condition.value
    match condition.test:
        case "is":
            return is_value(field, value)
        case "is_not":
            return none_of(field, [value])
        case "below":
            return _below(field, value)
        case "below_or_absent":
            return or_absent(field, _below(field, value))


def is_value(field: str, value: str | int | bool) -> q.Condition:
    """Return the condition that a field has this value."""
    match value:
        case bool():
            return _matched(field, q.Match(boolean=value))
        case int():
            return _matched(field, q.Match(integer=value))
        case str():
            return _matched(field, q.Match(keyword=value))


def fields_meet(where: Mapping[str, Scalar | FieldCondition]) -> list[q.Condition]:
    """Return the conditions of a read on fields of the payload."""
    return [_field_meets(field, condition) for field, condition in where.items()]


def _field_meets(field: str, condition: Scalar | FieldCondition) -> q.Condition:
    if not isinstance(condition, FieldCondition):
        condition = FieldCondition(is_=condition)
    tests: list[q.Condition] = []
    if condition.is_ is not UNSET:
        tests.append(is_value(field, _exact(condition.is_)))
    if condition.any is not UNSET:
        tests.append(any_of(field, [_exact(value) for value in condition.any]))
    if condition.not_any is not UNSET:
        others = any_of(field, [_exact(value) for value in condition.not_any])
        tests.append(q.Condition(filter=q.Filter(must_not=[others, is_absent(field)])))
    bounds = {name: value for name in ("gte", "lte") if (value := getattr(condition, name)) is not UNSET}
    if bounds:
        tests.append(in_range(field, **bounds))
    return or_absent(field, *tests) if tests and condition.or_absent else q.Condition(filter=q.Filter(must=tests))


def _exact(value: Scalar) -> Any:
    if isinstance(value, float):
        raise TypeError("a float is only compared by gte and lte")
    return value


def any_of(field: str, values: list[Any]) -> q.Condition:
    """Return the condition that a field has one of these values, which are all text, integers or bools."""
    if isinstance(values[0], bool):
        return q.Condition(filter=q.Filter(should=[is_value(field, value) for value in values]))
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        return _matched(field, q.Match(keywords=q.RepeatedStrings(strings=texts)))
    numbers = [value for value in values if isinstance(value, int)]
    return _matched(field, q.Match(integers=q.RepeatedIntegers(integers=numbers)))


def none_of(field: str, values: Iterable[str | int]) -> q.Condition:
    """Return the condition that a field is present and has none of these values."""
    values = list(values)
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        return _matched(field, q.Match(except_keywords=q.RepeatedStrings(strings=texts)))
    numbers = [value for value in values if isinstance(value, int)]
    return _matched(field, q.Match(except_integers=q.RepeatedIntegers(integers=numbers)))


def in_range(field: str, *, gte: float | None = None, lte: float | None = None) -> q.Condition:
    """Return the condition that a field is a number within bounds."""
    return q.Condition(field=q.FieldCondition(key=field, range=q.Range(gte=gte, lte=lte)))


def or_absent(field: str, *conditions: q.Condition) -> q.Condition:
    """Return the condition that a field meets all conditions, or has no value."""
    met = conditions[0] if len(conditions) == 1 else q.Condition(filter=q.Filter(must=conditions))
    return q.Condition(filter=q.Filter(should=[met, is_absent(field)]))


def is_absent(field: str) -> q.Condition:
    """Return the condition that a field has no value."""
    return q.Condition(is_empty=q.IsEmptyCondition(key=field))


def any_point_id(point_ids: Iterable[str]) -> q.Condition:
    """Return the condition that a point has one of these logical ids."""
    return _matched(POINT_ID_FIELD, q.Match(keywords=q.RepeatedStrings(strings=point_ids)))


def has_id(primary_ids: Iterable[str]) -> q.Condition:
    """Return the condition that a point has one of these UUIDs."""
    return q.Condition(has_id=q.HasIdCondition(has_id=[q.PointId(uuid=uuid) for uuid in primary_ids]))


def _below(field: str, value: str | int) -> q.Condition:
    return q.Condition(field=q.FieldCondition(key=field, range=q.Range(lt=float(value))))


def _matched(field: str, match: q.Match) -> q.Condition:
    return q.Condition(field=q.FieldCondition(key=field, match=match))
