"""Where a batch must end so that it can be applied again, in full or in part, without harm.

Upserts and deletes carry all that they do, so they can be repeated. A patch does not: the batch "purge group Q, move
file 6 into Q" deletes file 6 if it is applied twice. So a batch ends before a job of the same user

    1.  that is a patch of a field by which an earlier job of the batch selects points;
    2.  that is a patch which moves points out of its own selection, such as "in category a, set category b and note 1",
        if an earlier patch of the batch changes one of the same fields, but not the one that selects;
    3.  that is an upsert which an earlier prune of the batch would delete, because prunes come last in a plan.

This is enough. Consider the purges, patches and prunes of a batch, and one point that they find stored. If the batch is
repeated, each of them selects the point again exactly if it did so the first time: by rule 1 only earlier jobs change
the field that selects, and they change it again. So the last job that changes a field is the same. The exception is a
patch that moved the point out of its selection. It need not be repeated, because its changes are still there: by rule 2
no earlier patch has changed them back, unless it also moved the point into the selection again. Points that the batch
upserts or deletes are written last, whatever happened to them before.

The same is true if only the first jobs of the batch are repeated, because the others are repeated in a later batch. A
new batch begins only after the one before has been committed.
"""

from __future__ import annotations

from collections import defaultdict

from memory_worker.contract import Patch, Prune, Purge, Upsert, WriteJob, matches
from memory_worker.contract.kinds import UserId


class Cuts:
    """Decides for each job, in order, whether it may join the batch. The first one always may."""

    def __init__(self) -> None:
        self._users: defaultdict[UserId, _User] = defaultdict(_User)

    def must_end_before(self, job: WriteJob) -> bool:
        """Return whether the batch must end before ``job``. If not, the job has joined the batch."""
        if isinstance(job, Upsert):
            user = self._users.get(job.user_id) if self._users else None
            return user is not None and any(_deletes(prune, job) for prune in user.prunes)
        match job:
            case Patch():
                return self._users[job.user_id].must_end_before(job)
            case Purge() | Prune():
                self._users[job.user_id].add(job)
        return False


class _User:
    """The jobs of one user in the batch: by which fields they select, which fields each patch changes, and prunes."""

    def __init__(self) -> None:
        self.prunes: list[Prune] = []
        self._selecting: set[str] = set()
        self._changed: set[frozenset[str]] = set()

    def add(self, job: Purge | Patch | Prune) -> None:
        self._selecting.update(condition.field for condition in job.where)
        if isinstance(job, Prune):
            self.prunes.append(job)

    def must_end_before(self, job: Patch) -> bool:
        changed = frozenset((*job.set, *job.unset))
        if not changed.isdisjoint(self._selecting):
            return True
        own = [condition.field for condition in job.where if condition.field in changed]
        if own and any(not changed.isdisjoint(other) and other.isdisjoint(own) for other in self._changed):
            return True
        self._changed.add(changed)
        self.add(job)
        return False


def _deletes(prune: Prune, job: Upsert) -> bool:
    same = (prune.kind, prune.namespace) == (job.kind, job.namespace)
    return same and matches(job.payload, prune.where)
