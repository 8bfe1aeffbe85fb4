"""Make the golden files that every client runs: ``python -m tests.golden_files --write``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from memory_worker.contract.errors import InvalidJob
from tests.documents import ROOT
from tests.golden_answers import (
    marked,
    partitions,
    receipts,
    redis_errors,
    replies,
    script_hashes,
    uuids,
    vectors,
)
from tests.golden_inputs.limits import LIMITS
from tests.golden_inputs.reads import READS
from tests.golden_inputs.refused import REFUSED
from tests.golden_inputs.stored import OUTCOMES, STATES
from tests.golden_inputs.writes import WRITES, Call
from tests.golden_recorder import Recorder, call, meta_of, plain, version_and_partitions
from tests.golden_values import dump, to_form

FOLDER = ROOT / "clients" / "golden"


def as_read(document: Any) -> Any:
    """Return a document as a client reads it from its file: a map has its fields in the order of their names."""
    return json.loads(dump(document))


def _cases(calls: dict[str, list[Call]]) -> Iterator[tuple[dict[str, Any], Recorder]]:
    for limits, found in calls.items():
        for name, method, args in found:
            yield (
                as_read({"name": name, "limits": limits, "method": method, "args": args}),
                Recorder(meta_of(LIMITS[limits])),
            )


def jobs() -> Any:
    """Return calls with the jobs that they send."""
    return {"writes": list(_writes()), "reads": list(_reads())}


def _writes() -> Iterator[Any]:
    for case, recorder in _cases(WRITES):
        call(case["method"], case["args"], recorder)
        jobs = [{**_sent(job), **version_and_partitions(job, recorder)} for job in recorder.jobs]
        yield {**case, "jobs": jobs}


def _reads() -> Iterator[Any]:
    for case, recorder in _cases(READS):
        call(case["method"], case["args"], recorder)
        (job,) = recorder.jobs
        yield {**case, "job": _sent(job, timeout_ms=job.timeout_ms)}


def _sent(job: Any, **always: int) -> dict[str, Any]:
    fields = {**plain(job), **always}
    return {"msgpack": msgspec.msgpack.encode(fields).hex(), "fields": to_form(fields)}


def errors() -> Any:
    """Return calls that are refused, with their errors."""
    return {"cases": [{**case, "error": _error(case, recorder)} for case, recorder in _cases(REFUSED)]}


def _error(case: dict[str, Any], recorder: Recorder) -> dict[str, Any]:
    try:
        call(case["method"], case["args"], recorder)
    except InvalidJob as error:
        return marked(error)
    raise AssertionError(f"{case['name']} is not refused")


FILES: dict[str, Callable[[], Any]] = {
    "limits.json": lambda: LIMITS,
    "jobs.json": jobs,
    "errors.json": errors,
    "partitions.json": partitions,
    "uuids.json": uuids,
    "vectors.json": vectors,
    "replies.json": replies,
    "outcomes.json": lambda: OUTCOMES,
    "states.json": lambda: STATES,
    "receipts.json": receipts,
    "redis_errors.json": redis_errors,
    "scripts.json": script_hashes,
}


def main() -> None:
    for name, make in FILES.items():
        text = dump(make())
        if "--write" in sys.argv:
            (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
