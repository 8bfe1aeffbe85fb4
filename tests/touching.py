"""Which jobs make a dead letter stale: the rule of `memory_worker.queue.replay_guard`, without guards."""

from __future__ import annotations

from msgspec import UNSET

from memory_worker.contract import Condition, Delete, Patch, Upsert, Where, WriteJob, matches
from memory_worker.contract.fields import NARROWING
from memory_worker.contract.kinds import ALL_NAMESPACES


def may_touch(dead: WriteJob, later: WriteJob) -> bool:
    """Return whether ``later`` may touch a point of ``dead``. What a deleted or patched point holds is unknown."""
    kinds = {job.kind for job in (dead, later)} - {UNSET}
    namespaces = {job.namespace for job in (dead, later)} - {UNSET, ALL_NAMESPACES}
    if dead.user_id != later.user_id or len(kinds) > 1 or len(namespaces) > 1:
        return False
    ids, later_ids = _ids(dead), _ids(later)
    if ids and later_ids:
        return not ids.isdisjoint(later_ids)
    if ids:
        return not isinstance(dead, Upsert) or matches(dead.payload, later.where)
    if later_ids:
        return not isinstance(later, Upsert) or any(matches(later.payload, where) for where in _selections(dead))
    return any(_overlap(here, there) for here in _selections(dead) for there in _selections(later))


def _ids(job: WriteJob) -> set[str]:
    if isinstance(job, Upsert):
        return {job.point_id}
    return set(job.point_ids) if isinstance(job, (Delete, Patch)) and job.point_ids is not UNSET else set()


def _selections(job: WriteJob) -> list[Where]:
    """Return what the points of a job meet: before it and, if it is a patch that moves them, after it."""
    found = [job.where]
    if isinstance(job, Patch) and any(condition.field in {*job.set, *job.unset} for condition in job.where):
        found.append(
            tuple(Condition(name, job.set[name]) for name in NARROWING if type(job.set.get(name)) in (str, int))
        )
    return found


def _overlap(here: Where, there: Where) -> bool:
    """Return whether no value is required to be two different ones. Other tests are not compared."""
    wanted = {condition.field: condition.value for condition in here if condition.test == "is"}
    return all(wanted.get(one.field, one.value) == one.value for one in there if one.test == "is")
