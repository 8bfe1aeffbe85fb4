"""Where batches end. `test_plan_oracle` shows that the rules are enough. Here: what they cut, and what not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from memory_worker.contract import Delete, Patch, Prune, Purge, Upsert, WriteJob
from memory_worker.ingest.cuts import Cuts


def chunk(number: int = 1, *, user_id: int = 1, **payload: Any) -> Upsert:
    return Upsert(kind="document", user_id=user_id, point_id=f"doc_{user_id}_{number}", vector=b"", payload=payload)


def patch(*, kind: str = "document", user_id: int = 1, unset: tuple[str, ...] = (), **options: Any) -> Patch:
    """Return a patch of the points that the options with ``_`` select. It sets the other options."""
    target = {name[1:]: options.pop(name) for name in list(options) if name.startswith("_")}
    return Patch(user_id=user_id, kind=kind, set=options, unset=list(unset), **target)


def purge(**options: Any) -> Purge:
    return Purge(user_id=1, kind="document", **options)


def prune(file_id: int = 6, version: int = 5, user_id: int = 1) -> Prune:
    return Prune(user_id=user_id, file_id=file_id, version=version)


IDS = ["doc_1_1"]
MOVE = patch(_file_id=6, group_key="Q")
CUT: dict[str, list[WriteJob]] = {
    "a group is purged, then a file moves into it": [purge(group_key="Q"), MOVE],
    "a file moves out of a purged group": [purge(group_key="P"), MOVE],
    "a field of a purge by age": [purge(before=9), patch(_file_id=6, created=3)],
    "a field of a purge of other models": [purge(other_than_model=1), patch(_file_id=6, unset=("embedding_model_id",))],
    "a field of a purge of all kinds": [Purge(user_id=1, before=9), patch(_file_id=6, created=3)],
    "a file moves after a patch of its group": [patch(_group_key="P", text="x"), MOVE],
    "points move by their ids": [patch(_group_key="P", text="x"), patch(_point_ids=IDS, group_key="P")],
    "a file gets another id after a prune": [prune(), patch(_file_id=7, file_id=6)],
    "a group is renamed, and its text was patched": [
        patch(_point_ids=IDS, text="x"),
        patch(_group_key="P", group_key="Q", text="y"),
    ],
    "an older chunk after a prune": [prune(), chunk(file_id=6, _version=4)],
    "a chunk without a version after a prune": [prune(), chunk(file_id=6)],
}
NOT_CUT: dict[str, list[WriteJob]] = {
    "many files move": [patch(_file_id=file_id, group_key="Q") for file_id in range(50)],
    "a file moves, then its new group is purged": [MOVE, purge(group_key="Q")],
    "a file moves after a purge of another file": [purge(file_id=7), MOVE],
    "a file moves after a purge of everything": [purge(), Purge(user_id=1), MOVE],
    "a file moves after it was replaced": [chunk(file_id=6, _version=5), prune(), MOVE],
    "a file moves after upserts and deletes": [
        chunk(group_key="Q"),
        Delete(user_id=1, kind="document", point_ids=IDS),
        MOVE,
    ],
    "a group is renamed after its points moved in": [
        patch(_file_id=6, group_key="P", text="x"),
        patch(_group_key="P", group_key="Q", text="y"),
    ],
    "another user's group": [patch(user_id=2, _group_key="P", text="x"), prune(user_id=2), MOVE, chunk(file_id=6)],
    "a field by which nothing selects": [prune(), purge(group_key="Q"), patch(_file_id=6, text="x", active=False)],
    "many files are replaced": [
        job for file_id in range(9) for job in (chunk(file_id=file_id, _version=5), prune(file_id))
    ],
    "a file is replaced twice": [chunk(file_id=6, _version=5), prune(), chunk(file_id=6, _version=6), prune(version=6)],
    "a prune of another kind": [Prune(user_id=1, kind="note", file_id=6, version=5), chunk(file_id=6)],
}


def cuts_in(jobs: list[WriteJob]) -> list[int]:
    """Return the positions before which batches end."""
    found, cuts = [], Cuts()
    for position, job in enumerate(jobs):
        if cuts.must_end_before(job):
            found.append(position)
            cuts = Cuts()
            assert not cuts.must_end_before(job), "the first job of a batch is never refused"
    return found


@pytest.mark.parametrize("jobs", CUT.values(), ids=CUT)
def test_a_batch_ends_before_the_last_of(jobs: list[WriteJob]) -> None:
    assert cuts_in(jobs) == [len(jobs) - 1]


@pytest.mark.parametrize("jobs", NOT_CUT.values(), ids=NOT_CUT)
def test_a_batch_holds_all_of(jobs: list[WriteJob]) -> None:
    assert cuts_in(jobs) == []


def test_a_job_that_is_refused_does_not_count() -> None:
    cuts = Cuts()
    assert not cuts.must_end_before(purge(group_key="Q"))
    assert cuts.must_end_before(patch(_file_id=6, group_key="Q", text="x"))
    assert not cuts.must_end_before(patch(_file_id=6, text="x"))
    assert cuts.must_end_before(patch(_file_id=6, group_key="Q", text="x"))


def test_batches_of_usual_jobs_are_almost_never_cut() -> None:
    """40 users replace files, move them to groups, and delete files, groups and memories."""
    jobs, cuts = 0, 0
    for seed in range(100):
        batch = usual_jobs(random.Random(seed), 256)
        jobs += len(batch)
        cuts += len(cuts_in(batch))
    print(f"{cuts} cuts among {jobs} jobs")
    assert cuts < jobs / 1000


def usual_jobs(chance: random.Random, count: int) -> list[WriteJob]:
    jobs: list[WriteJob] = []
    while len(jobs) < count:
        user_id, file_id, run = chance.randint(1, 40), chance.randint(1, 20), len(jobs) + 1
        match chance.choices(range(6), (8, 4, 3, 2, 1, 2))[0]:
            case 0:
                jobs += [chunk(number, user_id=user_id, file_id=file_id, _version=run) for number in range(20)]
                jobs.append(prune(file_id, run, user_id))
            case 1:
                files = chance.sample(range(20), chance.choice((1, 1, 5)))
                jobs += [patch(user_id=user_id, _file_id=moved, group_key=chance.choice("PQ")) for moved in files]
            case 2:
                jobs.append(Purge(user_id=user_id, kind="document", file_id=file_id))
            case 3:
                jobs.append(Delete(user_id=user_id, point_ids=[f"mem_{user_id}_1"], namespace="*"))
            case 4:
                jobs.append(Purge(user_id=user_id, kind="document", group_key="P"))
            case _:
                ids = [f"mem_{user_id}_1"]
                jobs.append(patch(user_id=user_id, kind="memory", _point_ids=ids, category="c", value="v"))
    return jobs[:count]
