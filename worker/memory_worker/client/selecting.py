"""The arguments that many reads have, as the fields of their jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from memory_worker.contract import FieldCondition, Receipt, check_receipt
from memory_worker.contract.building import kind_of_read, refuse_none, to_timeout_ms
from memory_worker.contract.fields import Scalar
from memory_worker.contract.jobs import NarrowedJob
from memory_worker.contract.kinds import KindName

Conditions = Mapping[str, Scalar | FieldCondition | Mapping[str, Any]]
"""Fields with a value, or with a condition: any of ``is``, ``any``, ``not_any``, ``gte``, ``lte``, ``or_absent``."""


def common_fields(
    *, timeout: float, after: Receipt | None = None, fields: Iterable[str] | None = None
) -> dict[str, Any]:
    """Return the fields that many read jobs have."""
    found: dict[str, Any] = {"timeout_ms": to_timeout_ms(timeout)}
    if after is not None:
        check_receipt(after, "after")
        found["after"] = str(after)
    if fields is not None:
        found["fields"] = fields
    return found


def selecting_fields(
    kind: KindName | UnsetType, by: str = "", *, where: Conditions | None, **given: Any
) -> dict[str, Any]:
    """Return the fields that select points. ``by`` may imply the kind."""
    refuse_none(given, NarrowedJob.null_advice)
    found = {name: value for name, value in given.items() if value is not UNSET}
    return {"kind": kind_of_read(kind, {**found, by: by}), "where": {} if where is None else where, **found}
