"""The plan of a batch, compared with an oracle that applies the same jobs one by one.

`test_plan_oracle` has an oracle for patches and prunes, and for batches that crash.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from memory_worker.contract import Condition, Delete, Patch, Prune, Purge, Upsert, WriteJob, matches
from memory_worker.ingest.plan import needs_existing, plan
from memory_worker.store.operations import (
    CollectionRef,
    DeleteMatching,
    DeletePoints,
    Operation,
    PatchPoints,
    UpsertPoints,
)

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
GOOD, BAD = CollectionRef("memory", "good"), CollectionRef("memory", "bad")
NEW = CollectionRef("memory", "new")  # no point is stored in it, and it does not exist at first
ALL = CollectionRef("memory", "*")
EXISTING = (MEMORIES, GOOD, BAD, DOCUMENTS)

# A stored point is its payload, which names its user; a collection maps logical ids to points.
World = dict[CollectionRef, dict[str, dict[str, Any]]]
Step = tuple[CollectionRef, Operation]


def upsert(point_id: str, ref: CollectionRef = MEMORIES, **fields: Any) -> Upsert:
    user_id = int(point_id.split("_")[1])
    payload = {"user_id": user_id, "_point_id": point_id, **fields}
    return Upsert(
        user_id=user_id, point_id=point_id, vector=b"", payload=payload, kind=ref.kind, namespace=ref.namespace
    )


def delete(*point_ids: str, ref: CollectionRef = MEMORIES) -> Delete:
    user_id = int(point_ids[0].split("_")[1])
    return Delete(user_id=user_id, point_ids=list(point_ids), kind=ref.kind, namespace=ref.namespace)


# The oracle.


def in_order(world: World, jobs: Iterable[WriteJob]) -> World:
    """Return the world after the jobs, applied one by one as their docstrings say."""
    world = {ref: dict(points) for ref, points in world.items()}
    for job in jobs:
        match job:
            case Upsert():
                world.setdefault(CollectionRef(job.kind, job.namespace), {})[job.point_id] = job.payload
            case Delete():
                for point_id in job.point_ids:
                    world.get(CollectionRef(job.kind, job.namespace), {}).pop(point_id, None)
            case Purge():
                for ref, points in world.items():
                    if job.kind in (UNSET, ref.kind) and job.namespace in (UNSET, ref.namespace):
                        world[ref] = {name: point for name, point in points.items() if not purged(point, job)}
    return world


def purged(point: dict[str, Any], job: Purge) -> bool:
    narrowed = {"category": job.category, "group_key": job.group_key, "file_id": job.file_id}
    return point["user_id"] == job.user_id and all(
        wanted is UNSET or point.get(name) == wanted for name, wanted in narrowed.items()
    )


def after(world: World, steps: Iterable[Step]) -> World:
    """Return the world after the operations of a plan, as their docstrings say."""
    world = {ref: dict(points) for ref, points in world.items()}
    for ref, operation in steps:
        points = world.setdefault(ref, {})
        match operation:
            case DeleteMatching():
                for point_id, point in list(points.items()):
                    if point["user_id"] == operation.user_id and matches(point, operation.where):
                        del points[point_id]
            case DeletePoints():
                for point_id in operation.point_ids:
                    points.pop(point_id, None)
            case UpsertPoints():
                points.update({job.point_id: job.payload for job in operation.points})
    return world


def steps_of(jobs: Iterable[WriteJob], world: World) -> list[Step]:
    return [(found.ref, operation) for found in plan(jobs, world) for operation in found.operations]


def stored(world: World) -> World:
    """Return the world without empty collections. Whether one of them exists is not part of the outcome."""
    return {ref: points for ref, points in world.items() if points}


# Few users, points and values, so that jobs touch the same points.

users = st.integers(1, 2)
categories, groups, files = st.sampled_from(["a", "b"]), st.sampled_from(["g", "h"]), st.integers(1, 2)
fields = {
    "memory": st.fixed_dictionaries({}, optional={"category": categories}),
    "document": st.fixed_dictionaries({}, optional={"group_key": groups, "file_id": files}),
}
refs = st.sampled_from([*EXISTING, NEW])


def point_ids(ref: CollectionRef, user_id: int) -> st.SearchStrategy[str]:
    return st.integers(1, 3).map(lambda n: f"{ref.kind[:3]}_{user_id}_{n}")


@st.composite
def upserts(draw: st.DrawFn, places: st.SearchStrategy[CollectionRef] = refs) -> Upsert:
    ref = draw(places)
    return upsert(draw(point_ids(ref, draw(users))), ref, version=draw(st.integers(0, 99)), **draw(fields[ref.kind]))


@st.composite
def deletes(draw: st.DrawFn) -> Delete:
    ref = draw(refs)
    return delete(*draw(st.lists(point_ids(ref, draw(users)), min_size=1, max_size=3)), ref=ref)


absent = st.just(UNSET)


@st.composite
def purges(draw: st.DrawFn) -> Purge:
    match draw(st.sampled_from([None, "memory", "document"])):
        case "memory":
            namespace = draw(st.sampled_from([UNSET, "good", "new"]))
            narrowing = {"kind": "memory", "namespace": namespace, "category": draw(absent | categories)}
        case "document":
            narrowing = {"kind": "document", "group_key": draw(absent | groups), "file_id": draw(absent | files)}
        case _:
            narrowing = {}
    return Purge(user_id=draw(users), **narrowing)


batches = st.lists(st.one_of(upserts(), upserts(), deletes(), purges()), max_size=12)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw points that are stored already, by an older batch."""
    jobs = draw(st.lists(upserts(st.sampled_from(EXISTING)), max_size=8))
    return in_order({ref: {} for ref in EXISTING}, jobs)


@given(worlds(), batches)
def test_a_plan_has_the_result_of_its_jobs_in_order(world: World, jobs: list[WriteJob]) -> None:
    assert stored(after(world, steps_of(jobs, world))) == stored(in_order(world, jobs))


@given(worlds(), batches)
def test_jobs_of_different_users_may_be_planned_in_any_order(world: World, jobs: list[WriteJob]) -> None:
    by_user = [job for user_id in (2, 1) for job in jobs if job.user_id == user_id]
    assert stored(after(world, steps_of(by_user, world))) == stored(in_order(world, jobs))


def test_a_plan_has_one_operation_of_each_kind() -> None:
    writes = [upsert(f"mem_{user_id}_1") for user_id in (1, 2, 3)]
    (found,) = plan([job for write in writes for job in (write, delete(f"mem_{write.user_id}_2"))])
    assert found.operations == (DeletePoints(("mem_1_2", "mem_2_2", "mem_3_2")), UpsertPoints(tuple(writes)))


@given(worlds(), batches)
def test_a_batch_may_be_applied_again_after_a_crash_at_any_operation(world: World, jobs: list[WriteJob]) -> None:
    steps = steps_of(jobs, world)
    expected = stored(after(world, steps))
    for done in range(len(steps) + 1):
        crashed = after(world, steps[:done])
        assert stored(after(crashed, steps_of(jobs, crashed))) == expected


@given(worlds(), batches, batches, st.integers(0, 12))
def test_applied_jobs_may_be_applied_again_in_other_batches(
    world: World, jobs: list[WriteJob], more: list[WriteJob], cut: int
) -> None:
    expected = stored(in_order(world, [*jobs, *more]))
    world = after(world, steps_of(jobs, world))
    for batch in (jobs[:cut], [*jobs[cut:], *more]):
        world = after(world, steps_of(batch, world))
    assert stored(world) == expected


@given(batches)
def test_a_plan_has_purges_then_deletes_then_upserts_and_names_each_point_once(jobs: list[WriteJob]) -> None:
    planned = plan(jobs, EXISTING)
    assert len({found.ref for found in planned}) == len(planned)
    order = [DeleteMatching, DeletePoints, UpsertPoints]
    for found in planned:
        ranks = [order.index(type(operation)) for operation in found.operations]
        assert ranks == sorted(ranks)
        assert ranks.count(1) <= 1
        assert ranks.count(2) <= 1
        named = [
            *(name for step in found.operations if isinstance(step, DeletePoints) for name in step.point_ids),
            *(job.point_id for step in found.operations if isinstance(step, UpsertPoints) for job in step.points),
        ]
        assert len(set(named)) == len(named)
        matching = [step for step in found.operations if isinstance(step, DeleteMatching)]
        assert len(set(matching)) == len(matching)


@given(batches)
def test_existing_collections_matter_only_for_a_plan_that_needs_them(jobs: list[WriteJob]) -> None:
    if not needs_existing(jobs):
        assert plan(jobs, EXISTING) == plan(jobs, ())


# Examples.

OLD, LATE = upsert("mem_1_1", category="a", version=1), upsert("mem_1_1", category="b", version=2)
ALL_OF_1, A_OF_1 = DeleteMatching(1), DeleteMatching(1, (Condition("category", "a"),))
PRUNE = Prune(user_id=1, file_id=7, version=2)
PATCHED = PatchPoints(1, ("mem_1_1",), set={"key": "k"})


def patch(*point_ids: str, namespace: str | None = None) -> Patch:
    return Patch(user_id=1, point_ids=list(point_ids), namespace=namespace, set={"key": "k"})


EXAMPLES: dict[str, tuple[list[WriteJob], list[Step]]] = {
    "nothing": ([], []),
    "the last write wins": ([OLD, LATE], [(MEMORIES, UpsertPoints((LATE,)))]),
    "a delete after a write": ([OLD, delete("mem_1_1")], [(MEMORIES, DeletePoints(("mem_1_1",)))]),
    "a write after a delete": ([delete("mem_1_1"), OLD], [(MEMORIES, UpsertPoints((OLD,)))]),
    "deletes of one point": ([delete("mem_1_1"), delete("mem_1_1")], [(MEMORIES, DeletePoints(("mem_1_1",)))]),
    "a purge deletes what came before": (
        [OLD, delete("mem_1_2"), Purge(user_id=1, kind="memory")],
        [(MEMORIES, ALL_OF_1), (MEMORIES, DeletePoints(("mem_1_1", "mem_1_2")))],
    ),
    "a purge leaves alone what comes after": (
        [OLD, Purge(user_id=1, kind="memory"), LATE],
        [(MEMORIES, ALL_OF_1), (MEMORIES, UpsertPoints((LATE,)))],
    ),
    "a purge leaves alone other users": (
        [upsert("mem_2_1"), Purge(user_id=1, kind="memory")],
        [(MEMORIES, ALL_OF_1), (MEMORIES, UpsertPoints((upsert("mem_2_1"),)))],
    ),
    "a purged category may be stored under another one": (
        [OLD, Purge(user_id=1, kind="memory", category="a")],
        [(MEMORIES, A_OF_1), (MEMORIES, DeletePoints(("mem_1_1",)))],
    ),
    "a purged category leaves alone the others": (
        [LATE, Purge(user_id=1, kind="memory", category="a")],
        [(MEMORIES, A_OF_1), (MEMORIES, UpsertPoints((LATE,)))],
    ),
    "each namespace has its own collection": (
        [OLD, upsert("mem_1_1", GOOD), delete("mem_1_1", ref=BAD)],
        [
            (MEMORIES, UpsertPoints((OLD,))),
            (GOOD, UpsertPoints((upsert("mem_1_1", GOOD),))),
            (BAD, DeletePoints(("mem_1_1",))),
        ],
    ),
    "a purge of a namespace": ([Purge(user_id=1, kind="memory", namespace="good")], [(GOOD, ALL_OF_1)]),
    "a purge of a file": (
        [Purge(user_id=1, kind="document", group_key="g", file_id=7)],
        [(DOCUMENTS, DeleteMatching(1, (Condition("group_key", "g"), Condition("file_id", 7))))],
    ),
    "a purge of old points of other models": (
        [Purge(user_id=1, kind="document", before=9, other_than_model=4)],
        [
            (
                DOCUMENTS,
                DeleteMatching(1, (Condition("created", 9, "below"), Condition("embedding_model_id", 4, "is_not"))),
            )
        ],
    ),
    "a patch by ids": (
        [Patch(user_id=1, point_ids=["mem_1_2", "mem_1_1", "mem_1_2"], set={"category": "b"}, unset=["key"])],
        [(MEMORIES, PatchPoints(1, ("mem_1_2", "mem_1_1"), set={"category": "b"}, unset=("key",)))],
    ),
    "a patch changes an upsert before it": (
        [OLD, Patch(user_id=1, point_ids=["mem_1_1"], set={"category": "b", "version": 2})],
        [(MEMORIES, UpsertPoints((LATE,)))],
    ),
    "a patch by category changes the upserts before it and the stored points": (
        [OLD, upsert("mem_1_2"), Patch(user_id=1, category="a", set={"category": "b", "version": 2})],
        [
            (
                MEMORIES,
                PatchPoints(1, where=(Condition("category", "a"),), set={"category": "b", "version": 2}),
            ),
            (MEMORIES, UpsertPoints((LATE, upsert("mem_1_2")))),
        ],
    ),
    "a patch of a deleted point": (
        [delete("mem_1_1"), Patch(user_id=1, point_ids=["mem_1_1"], set={"category": "b"})],
        [(MEMORIES, DeletePoints(("mem_1_1",)))],
    ),
    "a purge is repeated after a patch": (
        [Purge(user_id=1, kind="memory"), *[patch("mem_1_1"), Purge(user_id=1, kind="memory")] * 2],
        [(MEMORIES, step) for step in (ALL_OF_1, *(PATCHED, ALL_OF_1) * 2)],
    ),
    "a prune comes last": (
        [
            upsert("doc_1_1", DOCUMENTS, file_id=7, _version=1),
            PRUNE,
            upsert("doc_1_2", DOCUMENTS, file_id=7, _version=2),
        ],
        [
            (DOCUMENTS, DeletePoints(("doc_1_1",))),
            (DOCUMENTS, UpsertPoints((upsert("doc_1_2", DOCUMENTS, file_id=7, _version=2),))),
            (DOCUMENTS, DeleteMatching(1, (Condition("file_id", 7), Condition("_version", 2, "below_or_absent")))),
        ],
    ),
}


@pytest.mark.parametrize(("jobs", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_plan_of_an_example(jobs: list[WriteJob], expected: list[Step]) -> None:
    assert steps_of(jobs, {}) == expected


def test_a_purge_of_both_kinds_reaches_every_namespace() -> None:
    jobs = [upsert("mem_1_1", NEW), Purge(user_id=1)]
    assert {found.ref: found.operations for found in plan(jobs, EXISTING)} == {
        **dict.fromkeys(EXISTING, (ALL_OF_1,)),
        NEW: (ALL_OF_1, DeletePoints(("mem_1_1",))),
    }


def test_a_delete_and_a_patch_may_reach_every_namespace() -> None:
    jobs = [upsert("mem_1_1", NEW), patch("mem_1_1", namespace="*"), delete("mem_1_2", ref=ALL)]
    deleted = DeletePoints(("mem_1_2",))
    assert {found.ref: found.operations for found in plan(jobs, EXISTING)} == {
        **dict.fromkeys((MEMORIES, GOOD, BAD), (PATCHED, deleted)),
        NEW: (deleted, UpsertPoints((upsert("mem_1_1", NEW, key="k"),))),
    }


def test_existing_collections_may_be_an_iterator() -> None:
    jobs = [Purge(user_id=1, kind="document"), Purge(user_id=2)]
    assert plan(jobs, iter(EXISTING)) == plan(jobs, EXISTING)


@pytest.mark.parametrize(
    ("job", "needed"),
    [
        (OLD, False),
        (delete("mem_1_1"), False),
        (Purge(user_id=1), True),
        (Purge(user_id=1, kind="memory"), True),
        (Purge(user_id=1, kind="memory", category="a"), True),
        (Purge(user_id=1, kind="memory", namespace="good"), False),
        (Purge(user_id=1, kind="document"), False),
        (PRUNE, False),
        (patch("mem_1_1"), False),
        (patch("mem_1_1", namespace="*"), True),
        (delete("mem_1_1", ref=ALL), True),
    ],
    ids=str,
)
def test_only_a_job_in_every_namespace_needs_the_existing_collections(job: WriteJob, needed: bool) -> None:
    assert needs_existing([OLD, job]) is needed


def test_the_order_within_a_plan_is_the_order_of_the_jobs() -> None:
    ids = [f"mem_1_{n}" for n in range(100)]
    random.Random(1).shuffle(ids)
    (found,) = plan([upsert(point_id) for point_id in ids])
    (operation,) = found.operations
    assert isinstance(operation, UpsertPoints)
    assert [job.point_id for job in operation.points] == ids
