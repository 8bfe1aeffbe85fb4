"""Check how reads select points: conditions, order, exclusions and projections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    MAX_POINTS_WITH_VECTORS,
    FieldCondition,
    Scalar,
)
from memory_worker.contract.kinds import POINT_ID_FIELD, RANGE_FIELDS, USER_ID_FIELD, Kind
from memory_worker.contract.read_jobs import (
    Facet,
    FacetAll,
    Files,
    Get,
    List,
    ListAll,
    Search,
    SelectingJob,
)
from memory_worker.contract.results import Receipt
from memory_worker.contract.type_words import type_word, word_of

_NOT_FACETED = (POINT_ID_FIELD, *RANGE_FIELDS)


def check_search(job: Search, kind: Kind) -> None:
    """Raise `InvalidJob` unless a search of ``kind`` has one query and valid conditions. The vector is not checked."""
    if (job.vector is UNSET) == (job.like is UNSET):
        raise InvalidJob("vector", "give either vector or like")
    if job.like is not UNSET:
        kind.check_point_id(job.like, job.user_id, field="like")
    if kind.distance == "cosine" and job.min_score is not None and not -1 <= job.min_score <= 1:
        raise InvalidJob("min_score", f"expected -1 to 1, got {job.min_score:g}")
    for position, point_id in enumerate(job.exclude):
        kind.check_point_id(point_id, job.user_id, field=f"exclude[{position}]")
    if job.namespaces is not UNSET:
        if job.namespace is not None:
            raise InvalidJob("namespaces", "give either namespace or namespaces")
        for position, namespace in enumerate(job.namespaces):
            kind.check_namespace(namespace, field=f"namespaces[{position}]")
    if job.not_category and "category" not in kind.narrowing:
        raise InvalidJob("not_category", f"needs another kind than {kind.name!r}")
    check_where(job.where, kind)
    check_receipt_text(job.after)


def check_get(job: Get) -> None:
    """Raise `InvalidJob` if a read by ids asks for too many vectors."""
    if job.vectors and len(job.point_ids) > MAX_POINTS_WITH_VECTORS:
        raise InvalidJob(
            "point_ids", f"at most {MAX_POINTS_WITH_VECTORS} are allowed with vectors, got {len(job.point_ids)}"
        )
    check_receipt_text(job.after)


def check_selection(job: SelectingJob, kind: Kind) -> None:
    """Raise `InvalidJob` unless ``job`` selects points of ``kind`` by what this kind has."""
    if job.active is not UNSET and "active" not in kind.payload_types:
        raise InvalidJob("active", f"needs another kind than {kind.name!r}")
    check_where(job.where, kind)
    check_receipt_text(job.after)
    match job:
        case List(order=order) if order != "id" and kind.indexes.get(order) != "integer":
            raise InvalidJob("order", f"kind {kind.name!r} has no index on {order!r}")
        case Facet(by=by) | FacetAll(by=by) if by in _NOT_FACETED or by not in kind.indexes:
            fields = ", ".join(name for name in kind.indexes if name not in _NOT_FACETED)
            raise InvalidJob("by", f"{by[:80]!r} is none of the fields of kind {kind.name!r} with facets: {fields}")
        case ListAll(vectors=True, limit=limit) if limit > MAX_POINTS_WITH_VECTORS:
            raise InvalidJob("limit", f"at most {MAX_POINTS_WITH_VECTORS} are allowed with vectors, got {limit}")
        case Files() if "file_id" not in kind.narrowing:
            raise InvalidJob("kind", f"kind {kind.name!r} has no files")


def check_where(where: Mapping[str, Scalar | FieldCondition], kind: Kind) -> None:
    """Raise `InvalidJob` for a condition without a test, on a field that ``kind`` does not have, or of a wrong type."""
    for field, condition in where.items():
        expected = int if field == USER_ID_FIELD and kind.user_ids == "integer" else kind.payload_types.get(field)
        if expected is None:
            fields = ", ".join(sorted(kind.payload_types))
            raise InvalidJob(f"where.{field[:80]}", f"is none of the fields of kind {kind.name!r}: {fields}")
        values = list(_values(condition))
        if not values:
            raise InvalidJob(f"where.{field}", "give at least one of is, any, not_any, gte and lte")
        for name, value in values:
            _check_value(f"where.{field}{name}", value, expected, exact=name not in (".gte", ".lte"))


def check_receipt_text(after: str | None) -> None:
    """Raise `InvalidJob` unless ``after`` is the text of a receipt, or absent."""
    if after is None:
        return
    try:
        Receipt.parse(after)
    except InvalidJob as error:
        raise InvalidJob("after", error.problem) from error


def _values(condition: Scalar | FieldCondition) -> Iterator[tuple[str, Any]]:
    """Yield each value of a condition with the name of its test."""
    if not isinstance(condition, FieldCondition):
        yield "", condition
        return
    for name in ("is_", "gte", "lte"):
        if (value := getattr(condition, name)) is not UNSET:
            yield f".{name.rstrip('_')}", value
    for name in ("any", "not_any"):
        if (values := getattr(condition, name)) is not UNSET:
            yield from ((f".{name}[{position}]", value) for position, value in enumerate(values))


def _check_value(path: str, value: Any, expected: type, *, exact: bool) -> None:
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidJob(path, "an integer must fit 64 bits")
    if not exact:
        if expected not in (int, float) or type(value) not in (int, float) or not math.isfinite(value):
            raise InvalidJob(path, f"needs a number and a field of numbers, the field has {word_of(expected)}")
    elif expected is float:
        raise InvalidJob(path, "a field of floats can only be compared by gte and lte")
    elif type(value) is not expected:
        raise InvalidJob(path, f"expected {word_of(expected)}, got {type_word(value)}")
