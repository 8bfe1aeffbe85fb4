"""Where a batch must end so that it can be applied again, in full or in part, without harm.

Upserts and deletes carry all that they do, so they can be repeated. A patch does not: the batch "purge group Q, move
file 6 into Q" deletes file 6 if it is applied twice. So a batch ends

    before a patch that changes a field by which jobs select points, if the batch has an operation of the same user that
    selects points by their payload;
    before an upsert that an earlier prune of the batch would delete, because prunes come last in a plan.

A new batch begins only after the one before has been committed.
"""

from __future__ import annotations

from msgspec import UNSET

from memory_worker.contract import Patch, Prune, Purge, Upsert, WriteJob, matches
from memory_worker.contract.kinds import UserId
from memory_worker.contract.patches import changes_selection


class Cuts:
    """Decides for each job, in order, whether it may join the batch. The first one always may."""

    def __init__(self) -> None:
        self._filtered: set[UserId] = set()
        self._prunes: dict[UserId, list[Prune]] = {}

    def must_end_before(self, job: WriteJob) -> bool:
        """Return whether the batch must end before ``job``. If not, the job has joined the batch."""
        user_id = job.user_id
        match job:
            case Patch() if user_id in self._filtered and changes_selection(job):
                return True
            case Upsert() if any(_deletes(prune, job) for prune in self._prunes.get(user_id, ())):
                return True
        if isinstance(job, Prune):
            self._prunes.setdefault(user_id, []).append(job)
        if _selects_by_payload(job):
            self._filtered.add(user_id)
        return False


def _selects_by_payload(job: WriteJob) -> bool:
    match job:
        case Purge():
            return job.is_narrowed
        case Patch():
            return job.point_ids is UNSET
    return isinstance(job, Prune)


def _deletes(prune: Prune, job: Upsert) -> bool:
    same = (prune.kind, prune.namespace) == (job.kind, job.namespace)
    return same and matches(job.payload, prune.where)
