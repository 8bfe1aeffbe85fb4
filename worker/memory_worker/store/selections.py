"""Which points a read selects, and which of their fields it returns, as Qdrant's messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType
from qdrant_client import grpc as q

from memory_worker.contract import AdminJob, Search, SelectingJob
from memory_worker.contract.kinds import POINT_ID_FIELD, Kind, UserId
from memory_worker.store.filters import any_of, any_point_id, condition_of, fields_meet, is_value, of_user
from memory_worker.store.operations import CollectionRef

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ACTIVE = "active"

NO_PAYLOAD = q.WithPayloadSelector(enable=False)


class Selection(NamedTuple):
    """Points in one collection that meet a filter.

    They belong to one user, whom the filter also names. ``None`` means all users, for reads of the operator.
    """

    ref: CollectionRef
    user_id: UserId | None
    filter: q.Filter

    def where(self, condition: q.Condition) -> Selection:
        """Return those points of the selection that also meet a condition."""
        must = [*self.filter.must, condition]
        return self._replace(filter=q.Filter(must=must, must_not=self.filter.must_not))


def selection_of(job: SelectingJob, kind: Kind) -> Selection:
    """Return the points that a job selects in its namespace. By default these are the ones that a search finds."""
    flags: dict[str, bool] = dict(kind.search_filter)
    if job.active is not UNSET:
        flags.pop(_ACTIVE, None)
        if job.active != "any":
            flags[_ACTIVE] = bool(job.active)
    user_id = None if isinstance(job, AdminJob) else job.user_id
    narrowed = map(condition_of, job.narrowing)
    must = [*owned_by(user_id), *narrowed, *_flags(flags), *fields_meet(job.where)]
    return Selection(CollectionRef(job.kind, job.namespace), user_id, q.Filter(must=must))


def owned_by(user_id: UserId | None) -> list[q.Condition]:
    """Return the conditions of a user's points; none for those of all users."""
    return [] if user_id is None else of_user(user_id)


def searched_by(job: Search, kind: Kind) -> q.Filter:
    """Return the filter for the points among which a job searches."""
    selected = q.Filter(
        must=[*of_user(job.user_id, job.narrowing), *_flags(kind.search_filter), *fields_meet(job.where)]
    )
    left_out = [*job.exclude, *([] if job.like is UNSET else [job.like])]
    if left_out:
        selected.must_not.append(any_point_id(left_out))
    if job.not_category:
        selected.must_not.append(any_of("category", list(job.not_category)))
    return selected


def _flags(flags: Mapping[str, bool]) -> Iterable[q.Condition]:
    return (is_value(field, value) for field, value in flags.items())


def with_fields(fields: list[str] | UnsetType) -> q.WithPayloadSelector:
    """Return which fields of the payload to fetch: these and the logical id, or all of them."""
    if fields is UNSET:
        return q.WithPayloadSelector(enable=True)
    paths = [name if _PLAIN_NAME.fullmatch(name) else f'"{name}"' for name in (*fields, POINT_ID_FIELD)]
    return q.WithPayloadSelector(include=q.PayloadIncludeSelector(fields=paths))


def only_fields(payload: dict[str, Any], fields: list[str] | UnsetType) -> dict[str, Any]:
    """Return the fetched payload without the logical id, unless it was asked for."""
    if fields is not UNSET and POINT_ID_FIELD not in fields:
        payload.pop(POINT_ID_FIELD, None)
    return payload
