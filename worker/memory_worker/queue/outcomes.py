"""The outcomes of jobs, as scripts write them into their stream. `memory_worker.wire.outcomes` reads them."""

from __future__ import annotations

from typing import Any

from memory_worker.contract import Receipt, WriteJob, op_of

OUTCOMES_MAX = 100_000
"""The default of ``OUTCOMES_MAX``."""
PURGED = "purged"
"""The reason of jobs that a later purge of their user has made needless."""
DISCARDED = "discarded"
"""The reason of jobs that an operator has discarded while they waited."""


def job_fields(job: WriteJob | None) -> dict[str, str]:
    """Return the fields that outcomes and dead letters have of a job. They are empty if it could not be decoded."""
    if job is None:
        return dict.fromkeys(("op", "user_id", "kind", "namespace", "ref"), "")
    return {
        "op": op_of(job),
        "user_id": str(job.user_id),
        "kind": job.kind or "",
        "namespace": job.namespace or "",
        "ref": job.ref or "",
    }


def outcome_fields(
    receipt: Receipt, position: str, job: WriteJob | None, outcome: str, *, reason: str = "", detail: str = ""
) -> list[str]:
    """Return the fields of an outcome, names and values in turn, always in the same order."""
    of_job: dict[str, Any] = job_fields(job)
    ref = of_job.pop("ref")
    fields = {
        "receipt": str(receipt),
        "position": position,
        **of_job,
        "outcome": outcome,
        "reason": reason,
        "detail": detail,
        "ref": ref,
        "replay": "",
    }
    return [part for field in fields.items() for part in field]
