"""Jobs from the arguments of the client's methods. Every error names the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from memory_worker.contract.arguments import listed, seconds, shown, type_name
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import MAX_TIMEOUT_MS, Delete, Purge, Upsert, WriteJob
from memory_worker.contract.kinds import KindName

_Done = TypeVar("_Done")


def upsert_of(where: str, point: Any) -> Upsert:
    """Return an item of `MemoryQueue.upsert_many` as a job; ``where`` is its path in errors."""
    if isinstance(point, Upsert):
        return point
    if not isinstance(point, Mapping):
        raise InvalidJob(where, f"expected an Upsert or a map of the arguments of upsert, got {type_name(point)}")
    for name in point:
        if name not in Upsert.__struct_fields__:
            raise InvalidJob(where, f"{shown(name)} is no argument of upsert")
    for name in ("user_id", "point_id", "vector"):
        if name not in point:
            raise InvalidJob(f"{where}.{name}", "is missing")
    payload = point.get("payload")
    return Upsert(**{**point, "payload": {} if payload is None else payload})


def write_jobs(jobs: Any) -> list[WriteJob]:
    """Return the jobs of `MemoryQueue.push_many` as a list."""
    found = listed("jobs", jobs, of="write jobs")
    for at, job in enumerate(found):
        if not isinstance(job, (Upsert, Delete, Purge)):
            raise InvalidJob(f"jobs[{at}]", f"expected an Upsert, a Delete or a Purge, got {type_name(job)}")
    return found


def each(jobs: Sequence[WriteJob], work: Callable[[WriteJob], _Done]) -> list[_Done]:
    """Do ``work`` on each job; where there are several, an `InvalidJob` says which of them it is about."""
    done: list[_Done] = []
    for job in jobs:
        try:
            done.append(work(job))
        except InvalidJob as error:
            if len(jobs) == 1:
                raise
            raise InvalidJob(
                error.field, f"{error.problem} (job {len(done)} of {len(jobs)}, counted from 0)"
            ) from error
    return done


@contextmanager
def renamed(field: str, argument: str) -> Iterator[None]:
    """Let an `InvalidJob` about a field of the job name the argument that it was made from."""
    try:
        yield
    except InvalidJob as error:
        if error.field != field:
            raise
        raise InvalidJob(argument, error.problem) from error


def refuse_none(arguments: Mapping[str, Any], instead: str) -> None:
    """Refuse an argument that is ``None`` where that may be a mistake; ``instead`` says what to do."""
    for name, value in arguments.items():
        if value is None:
            raise InvalidJob(name, f"must not be None: {instead}")


def implied_kind(narrowing: Mapping[str, Any]) -> KindName | UnsetType:
    """Return the kind that a purge must mean when it is narrowed by what only one kind has."""
    given = {name for name, value in narrowing.items() if value is not UNSET}
    if given & {"namespace", "category"}:
        return "memory"
    return "document" if given else UNSET


def milliseconds(timeout: Any) -> int:
    """Return the timeout of a read, given in seconds."""
    return max(1, int(seconds("timeout", timeout, most=MAX_TIMEOUT_MS / 1000) * 1000))
