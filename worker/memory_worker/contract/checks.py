"""Check what the types of a job cannot express: the owner of its points, the rules of its kind, and the limits."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import Delete, Get, Info, Limits, Purge, ReadJob, Search, Upsert, WriteJob
from memory_worker.contract.kinds import KINDS, POINT_ID_FIELD, USER_ID_FIELD, Kind
from memory_worker.contract.payloads import check_payload
from memory_worker.contract.vectors import check_vector, pack_vector

AnyJob = TypeVar("AnyJob", bound=WriteJob | ReadJob)


def checked(job: AnyJob, limits: Limits) -> AnyJob:
    """Return a valid job with its vector packed and its payload complete. Raises `InvalidJob`."""
    if isinstance(job, Info):
        return job
    if isinstance(job, Purge):
        _check_purge(job)
        return job
    kind = KINDS[job.kind]
    kind.check_namespace(job.namespace)
    match job:
        case Upsert():
            return _checked_upsert(job, kind, limits)  # type: ignore[return-value]  # same type as given
        case Delete() | Get():
            for position, point_id in enumerate(job.point_ids):
                kind.check_point_id(point_id, job.user_id, field=f"point_ids[{position}]")
        case Search():
            _check_narrowing(job, kind)
            return msgspec.structs.replace(job, vector=_checked_vector(job.vector, limits))
    return job


def check_size(size_bytes: int, limits: Limits) -> None:
    """Raise `InvalidJob` if the encoded job is larger than the limit."""
    if size_bytes > limits.max_job_bytes:
        raise InvalidJob("job", f"at most {limits.max_job_bytes:,} bytes are allowed, got {size_bytes:,}")


def _checked_upsert(job: Upsert, kind: Kind, limits: Limits) -> Upsert:
    kind.check_point_id(job.point_id, job.user_id)
    vector = _checked_vector(job.vector, limits)
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
    )


def _checked_vector(vector: Any, limits: Limits) -> bytes:
    packed = pack_vector(vector)
    check_vector(packed, limits.dimension)
    return packed


def _identity(payload: dict[str, Any], field: str, expected: Any) -> Any:
    if payload.get(field, expected) != expected:
        raise InvalidJob(f"payload.{field}", f"differs from the job's {expected!r}")
    return expected


def _check_purge(job: Purge) -> None:
    kind = None if job.kind is UNSET else KINDS[job.kind]
    if job.namespace is not UNSET:
        if kind is None:
            raise InvalidJob("namespace", "needs kind 'memory'")
        kind.check_namespace(job.namespace)
    _check_narrowing(job, kind)


def _check_narrowing(job: Purge | Search, kind: Kind | None) -> None:
    for name, _ in job.narrowing:
        if kind is None or name not in kind.narrowing:
            owner = "a kind" if kind is None else f"another kind than {kind.name!r}"
            raise InvalidJob(name, f"needs {owner}")
