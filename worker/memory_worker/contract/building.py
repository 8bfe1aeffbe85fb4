"""Build jobs from the arguments of the client's methods. Every error names the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from memory_worker.contract.arguments import excerpt, to_list, to_scalar, to_seconds
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    MAX_TIMEOUT_MS,
)
from memory_worker.contract.jobs import (
    Delete,
    Patch,
    Prune,
    Purge,
    Upsert,
    WriteJob,
)
from memory_worker.contract.kinds import VERSION_FIELD, KindName
from memory_worker.contract.read_jobs import Search
from memory_worker.contract.type_words import type_word

_Result = TypeVar("_Result")
_NOT_IN_SEARCH_MANY = ("after", "timeout_ms")


def to_upsert(field: str, point: Any) -> Upsert:
    """Return the job for one item of `MemoryQueue.upsert_many`. Raises `InvalidJob`."""
    if isinstance(point, Upsert):
        return point
    if not isinstance(point, Mapping):
        raise InvalidJob(field, f"expected an Upsert or a map of the arguments of upsert, got {type_word(point)}")
    for name in point:
        if name not in Upsert.__struct_fields__:
            raise InvalidJob(field, f"{excerpt(name)} is no argument of upsert")
    for name in ("user_id", "point_id", "vector"):
        if name not in point:
            raise InvalidJob(f"{field}.{name}", "is missing")
    payload = point.get("payload")
    return Upsert(**{**point, "payload": {} if payload is None else payload})


def to_search(field: str, search: Any) -> Search:
    """Return the job for one item of `MemoryQueue.search_many`. Raises `InvalidJob`."""
    if isinstance(search, Search):
        return search
    if not isinstance(search, Mapping):
        raise InvalidJob(field, f"expected a Search or a map of the arguments of search, got {type_word(search)}")
    for name in search:
        if name not in Search.__struct_fields__ or name in _NOT_IN_SEARCH_MANY:
            raise InvalidJob(field, f"{excerpt(name)} is no argument of search")
    if "user_id" not in search:
        raise InvalidJob(f"{field}.user_id", "is missing")
    return Search(**{**search, "kind": kind_of_read(search.get("kind", UNSET), search)})


def to_chunk(field: str, chunk: Any, prune: Prune) -> Upsert:
    """Return the job for one chunk of `MemoryQueue.replace_file`, whose last job is ``prune``. Raises `InvalidJob`."""
    given = _chunk_fields(field, chunk)
    common: dict[str, Any] = {"user_id": prune.user_id, "kind": prune.kind, "namespace": prune.namespace}
    for name, value in given.items():
        if name not in (*common, "point_id", "vector", "payload"):
            raise InvalidJob(field, f"{excerpt(name)} is no field of a chunk")
        if name in common and to_scalar(value, f"{field}.{name}") != common[name]:
            raise InvalidJob(f"{field}.{name}", f"differs from the file's {common[name]!r}")
    for name in ("point_id", "vector"):
        if name not in given:
            raise InvalidJob(f"{field}.{name}", "is missing")
    payload = given.get("payload")
    if not isinstance(payload, Mapping | None):
        raise InvalidJob(f"{field}.payload", f"expected a map, got {type_word(payload)}")
    payload = dict(payload or {})
    for name, value in (("file_id", prune.file_id), (VERSION_FIELD, prune.version)):
        if to_scalar(payload.get(name, value), f"{field}.payload.{name}") != value:
            raise InvalidJob(f"{field}.payload.{name}", f"differs from the file's {value}")
        payload[name] = value
    return Upsert(point_id=given["point_id"], vector=given["vector"], payload=payload, ref=prune.ref, **common)


def _chunk_fields(field: str, chunk: Any) -> Mapping[str, Any]:
    """Return the fields of a chunk. Those of a struct that have their default count as not given."""
    if isinstance(chunk, msgspec.Struct):
        fields = ((info.name, info.default) for info in msgspec.structs.fields(chunk))
        return {name: value for name, default in fields if (value := getattr(chunk, name)) is not default}
    if not isinstance(chunk, Mapping):
        raise InvalidJob(field, f"expected a map or a struct, got {type_word(chunk)}")
    return chunk


def to_write_jobs(jobs: Any) -> list[WriteJob]:
    """Return the jobs of `MemoryQueue.push_many` as a list. Raises `InvalidJob`."""
    found = to_list("jobs", jobs, of="write jobs")
    for position, job in enumerate(found):
        if not isinstance(job, (Upsert, Delete, Purge, Patch, Prune)):
            raise InvalidJob(
                f"jobs[{position}]", f"expected an Upsert, Delete, Purge, Patch or Prune, got {type_word(job)}"
            )
    return found


def map_jobs(convert: Callable[[WriteJob], _Result], jobs: Sequence[WriteJob]) -> list[_Result]:
    """Convert each job. If there are several, an `InvalidJob` says which job it is about."""
    results: list[_Result] = []
    for position, job in enumerate(jobs):
        try:
            results.append(convert(job))
        except InvalidJob as error:
            if len(jobs) == 1:
                raise
            problem = f"{error.problem} (job {position} of {len(jobs)}, counted from 0)"
            raise InvalidJob(error.field, problem) from error
    return results


@contextmanager
def rename_field(field: str, argument: str) -> Iterator[None]:
    """Make an `InvalidJob` about ``field`` name the ``argument`` that the field was built from."""
    try:
        yield
    except InvalidJob as error:
        if error.field != field:
            raise
        raise InvalidJob(argument, error.problem) from error


def refuse_none(arguments: Mapping[str, Any], instead: str) -> None:
    """Raise `InvalidJob` for an argument that is ``None``, which may be a mistake. ``instead`` says what to do."""
    for name, value in arguments.items():
        if value is None:
            raise InvalidJob(name, f"must not be null: {instead}")


def implied_kind(narrowing: Mapping[str, Any]) -> KindName | UnsetType:
    """Return the kind of a purge or patch that is narrowed by a field which only this kind has."""
    given = {name for name, value in narrowing.items() if value is not UNSET}
    if given & {"namespace", "category"}:
        return "memory"
    return "document" if given else UNSET


def kind_of_read(kind: KindName | UnsetType, narrowing: Mapping[str, Any]) -> KindName:
    """Return the kind of a read: the given one, or the one that has the narrowing fields."""
    if kind is not UNSET:
        return kind
    given = {name for name, value in narrowing.items() if value is not UNSET}
    return "document" if given & {"group_key", "file_id"} else "memory"


def to_timeout_ms(timeout: Any) -> int:
    """Return the timeout of a read in milliseconds. It is given in seconds. Raises `InvalidJob`."""
    return max(1, int(to_seconds("timeout", timeout, maximum=MAX_TIMEOUT_MS / 1000) * 1000))
