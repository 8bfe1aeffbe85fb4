"""Check what the types of a job cannot express: the owner of its points, the rules of its kind, and the limits."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import (
    Delete,
    Limits,
    Patch,
    Prune,
    Purge,
    Upsert,
    WriteJob,
)
from memory_worker.contract.kinds import (
    CREATED_FIELD,
    MODEL_FIELD,
    POINT_ID_FIELD,
    USER_ID_FIELD,
    Kind,
    KindName,
    UserId,
    check_text_user_id,
)
from memory_worker.contract.patches import check_patch
from memory_worker.contract.payloads import check_payload
from memory_worker.contract.read_jobs import (
    Count,
    CountAll,
    Facet,
    FacetAll,
    Get,
    Health,
    Info,
    ReadJob,
    Search,
    SearchMany,
)
from memory_worker.contract.selections import check_get, check_receipt_text, check_search, check_selection
from memory_worker.contract.vectors import check_vector, pack_vector

AnyJob = TypeVar("AnyJob", bound=WriteJob | ReadJob)


def checked(job: AnyJob, limits: Limits) -> AnyJob:
    """Return a valid job with its vector packed and its payload complete. Raises `InvalidJob`."""
    match job:
        case Upsert():
            kind = _kind_of(job.kind, limits)
            kind.check_namespace(job.namespace)
            return _checked_upsert(job, kind, limits)  # type: ignore[return-value]  # same type as given
        case Purge():
            _check_purge(job, limits)
        case Search():
            return _checked_search(job, limits)  # type: ignore[return-value]  # same type as given
        case SearchMany():
            return _checked_searches(job, limits)  # type: ignore[return-value]  # same type as given
        case Info() | Health():
            pass
        case _:
            _check_other(job, limits)
    return job


def unknown_kind(job: WriteJob, limits: Limits) -> KindName | None:
    """Return the kind of a job if the deployment does not have it. A purge of all kinds names none."""
    name = job.only_kind if isinstance(job, Purge) else job.kind
    return None if name is None or name in limits.kinds else name


def check_size(size_bytes: int, limits: Limits) -> None:
    """Raise `InvalidJob` if the encoded job is larger than the limit."""
    if size_bytes > limits.max_job_bytes:
        raise InvalidJob("job", f"at most {limits.max_job_bytes:,} bytes are allowed, got {size_bytes:,}")


def _kind_of(name: KindName, limits: Limits) -> Kind:
    kind = limits.kinds.get(name)
    if kind is None:
        raise InvalidJob("kind", f"{name[:80]!r} is none of {', '.join(limits.kinds)}")
    return kind


def _check_other(job: Any, limits: Limits) -> None:
    """Check a job of one kind without a vector."""
    kind = _kind_of(job.kind, limits)
    by_ids = isinstance(job, (Delete, Patch)) and job.point_ids is not UNSET
    all_allowed = by_ids or isinstance(job, (Count, CountAll, Facet, FacetAll))
    kind.check_namespace(job.namespace, all_allowed=all_allowed)
    if hasattr(job, "user_id"):
        kind.check_user_id(job.user_id)
    match job:
        case Delete():
            _check_point_ids(job.point_ids, kind, job.user_id)
        case Patch():
            if job.point_ids is not UNSET:
                _check_point_ids(job.point_ids, kind, job.user_id)
            _check_narrowing(job, kind)
            check_patch(job, kind)
        case Prune():
            if "file_id" not in kind.narrowing:
                raise InvalidJob("file_id", f"needs another kind than {kind.name!r}")
        case Get():
            _check_point_ids(job.point_ids, kind, job.user_id)
            check_get(job)
        case _:
            _check_narrowing(job, kind)
            check_selection(job, kind)


def _checked_upsert(job: Upsert, kind: Kind, limits: Limits) -> Upsert:
    kind.check_user_id(job.user_id)
    kind.check_point_id(job.point_id, job.user_id)
    vector = _checked_vector(job.vector, kind, limits)
    check_payload(job.payload, kind)
    payload = {
        **job.payload,
        **{name: value for name, value in kind.payload_defaults.items() if job.payload.get(name) is None},
        USER_ID_FIELD: _identity(job.payload, USER_ID_FIELD, job.user_id),
        POINT_ID_FIELD: _identity(job.payload, POINT_ID_FIELD, job.point_id),
    }
    return Upsert(
        kind=job.kind,
        namespace=job.namespace,
        user_id=job.user_id,
        point_id=job.point_id,
        vector=vector,
        payload=payload,
        ref=job.ref,
        notify=job.notify,
    )


def _checked_search(job: Search, limits: Limits) -> Search:
    kind = _kind_of(job.kind, limits)
    kind.check_namespace(job.namespace)
    kind.check_user_id(job.user_id)
    _check_narrowing(job, kind)
    check_search(job, kind)
    if job.vector is UNSET:
        return job
    return msgspec.structs.replace(job, vector=_checked_vector(job.vector, kind, limits))


def _checked_searches(job: SearchMany, limits: Limits) -> SearchMany:
    check_receipt_text(job.after)
    found = []
    for position, search in enumerate(job.searches):
        try:
            found.append(_checked_search(search, limits))
        except InvalidJob as error:
            raise InvalidJob(f"searches[{position}].{error.field}", error.problem) from error
    return msgspec.structs.replace(job, searches=found)


def _checked_vector(vector: Any, kind: Kind, limits: Limits) -> bytes:
    packed = pack_vector(vector)
    check_vector(packed, limits.dimension_of(kind), normalized=kind.distance == "cosine")
    return packed


def _identity(payload: dict[str, Any], field: str, expected: Any) -> Any:
    if payload.get(field, expected) != expected:
        raise InvalidJob(f"payload.{field}", f"differs from the job's {expected!r}")
    return expected


def _check_point_ids(point_ids: list[str], kind: Kind, user_id: UserId) -> None:
    for position, point_id in enumerate(point_ids):
        kind.check_point_id(point_id, user_id, field=f"point_ids[{position}]")


def _check_purge(job: Purge, limits: Limits) -> None:
    kind = None if job.only_kind is None else _kind_of(job.only_kind, limits)
    if kind is not None:
        kind.check_user_id(job.user_id)
    elif not any(kind.has_user(job.user_id) for kind in limits.kinds.values()):
        raise InvalidJob("user_id", f"no kind has {'text' if isinstance(job.user_id, str) else 'integer'} user ids")
    elif isinstance(job.user_id, str):
        check_text_user_id(job.user_id)
    if job.namespace is not UNSET:
        if kind is None:
            raise InvalidJob("namespace", "needs a kind")
        kind.check_namespace(job.namespace)
    _check_narrowing(job, kind)
    for name, field in (("before", CREATED_FIELD), ("other_than_model", MODEL_FIELD)):
        if kind is not None and getattr(job, name) is not UNSET and kind.payload_types.get(field) is not int:
            raise InvalidJob(name, f"kind {kind.name!r} has no integer field {field!r}")


def _check_narrowing(job: Any, kind: Kind | None) -> None:
    for condition in job.narrowing:
        if kind is None or condition.field not in kind.narrowing:
            owner = "a kind" if kind is None else f"another kind than {kind.name!r}"
            raise InvalidJob(condition.field, f"needs {owner}")
