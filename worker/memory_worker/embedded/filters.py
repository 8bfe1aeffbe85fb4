"""Converts Qdrant's filters for Edge. Unsupported conditions are refused, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import qdrant_edge as edge

from memory_worker.embedded.convert import ids_from_proto
from memory_worker.embedded.refusals import bad_argument, not_served, serve_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qdrant_client import grpc as q

_Condition = Any  # one of Edge's condition classes, or a nested filter

_MATCHES: dict[str, Callable[[q.Match], Any]] = {
    "keyword": lambda match: edge.MatchValue(match.keyword),
    "integer": lambda match: edge.MatchValue(match.integer),
    # Edge reads a bool of Python as an integer, but a bool of numpy as a bool.
    "boolean": lambda match: edge.MatchValue(np.bool_(match.boolean)),  # type: ignore[arg-type]
    "keywords": lambda match: edge.MatchAny(list(match.keywords.strings)),
    "integers": lambda match: edge.MatchAny(list(match.integers.integers)),
    "except_keywords": lambda match: edge.MatchExcept(list(match.except_keywords.strings)),
    "except_integers": lambda match: _match_except_integers(list(match.except_integers.integers)),
}

_CONDITIONS: dict[str, Callable[[q.Condition], _Condition]] = {
    "field": lambda condition: _field(condition.field),
    "has_id": lambda condition: edge.HasIdCondition(set(ids_from_proto(condition.has_id.has_id))),
    "is_empty": lambda condition: edge.IsEmptyCondition(condition.is_empty.key),
    "is_null": lambda condition: edge.IsNullCondition(condition.is_null.key),
    "filter": lambda condition: filter_from_proto(condition.filter),
}


def filter_from_proto(message: q.Filter) -> edge.Filter:
    """Return the filter for Edge. Without conditions it matches every point."""
    serve_only(message, ("must", "should", "must_not"))
    return edge.Filter(
        must=_conditions(message.must),
        should=_conditions(message.should),
        must_not=_conditions(message.must_not),
    )


def _conditions(messages: Iterable[q.Condition]) -> list[_Condition] | None:
    return [_condition(message) for message in messages] or None


def _condition(message: q.Condition) -> _Condition:
    return _converted(message, "condition_one_of", _CONDITIONS, "Condition type", "filter conditions")


def _field(condition: q.FieldCondition) -> edge.FieldCondition:
    serve_only(condition, ("key", "match", "range", "is_empty", "is_null"))
    return edge.FieldCondition(
        condition.key,
        match=_match(condition.match) if condition.HasField("match") else None,
        range=_range(condition.range) if condition.HasField("range") else None,
        is_empty=condition.is_empty if condition.HasField("is_empty") else None,
        is_null=condition.is_null if condition.HasField("is_null") else None,
    )


def _match(match: q.Match) -> Any:
    return _converted(match, "match_value", _MATCHES, "Match condition", "matches")


def _match_except_integers(integers: list[int]) -> edge.MatchExcept:
    if not integers:  # Edge would read an empty list as one of keywords, and match other points
        raise not_served("matches of all integers except none")
    return edge.MatchExcept(integers)


def _converted(message: Any, oneof: str, converters: dict[str, Callable[[Any], Any]], name: str, plural: str) -> Any:
    """Convert a message by the type that is set in its ``oneof``."""
    kind = message.WhichOneof(oneof)
    if kind is None:
        raise bad_argument(f"Malformed {name}")
    if kind not in converters:
        raise not_served(f"{plural} of type {kind}")
    return converters[kind](message)


def _range(message: q.Range) -> edge.RangeFloat:
    return edge.RangeFloat(**{bound.name: value for bound, value in message.ListFields()})
