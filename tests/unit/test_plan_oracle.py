"""Random jobs are applied in batches that crash and are read again: the result is that of the jobs one by one.

    pytest -n 0 --no-cov tests/unit/test_plan_oracle.py --batches 200000 --seed 7

Each batch is planned, and its request is cut short after any operation, as often as a worker may die. The next attempt
may read a shorter or a longer batch. Then the batch is applied in full and committed.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from qdrant_client import grpc as q

from memory_worker.contract import Upsert, WriteJob
from memory_worker.ingest.plan import needs_existing, plan
from memory_worker.store.messages import update_batch
from memory_worker.store.operations import CollectionRef, UpsertPoints
from tests.unit.engine_model import Step, steps_of
from tests.unit.plan_world import KINDS, NEW, REFS, Maker, World, batch_of, in_order, stored

MOST_JOBS = 12
CRASHES = (0, 1, 1, 2)


def steps(jobs: list[WriteJob], world: World) -> list[tuple[CollectionRef, Step]]:
    """Return what Qdrant does one after the other. Collections that batches write to are made."""
    existing = {*world, *_named(jobs)} if needs_existing(jobs, KINDS) else set()
    found = []
    for planned in plan(jobs, existing, KINDS):
        writes = any(isinstance(operation, UpsertPoints) for operation in planned.operations)
        if writes or planned.ref in existing | world.keys():
            request = q.UpdateBatchPoints.FromString(update_batch("c", planned.operations).body)
            found += [(planned.ref, step) for step in steps_of(request)]
    return found


def run(world: World, planned: list[tuple[CollectionRef, Step]]) -> None:
    for ref, step in planned:
        step(world.setdefault(ref, {}))


def _named(jobs: list[WriteJob]) -> set[CollectionRef]:
    return {CollectionRef(job.kind, job.namespace) for job in jobs if isinstance(job, Upsert)}


def drain(world: World, jobs: list[WriteJob], chance: random.Random) -> Counter[str]:
    """Apply all jobs in batches, with crashes. Return counts of what happened."""
    done: Counter[str] = Counter()
    while jobs:
        for _ in range(chance.choice(CRASHES)):
            attempt = batch_of(jobs, chance.randint(1, len(jobs)))
            planned = steps(attempt, world)
            run(world, planned[: chance.randint(0, len(planned))])
            done["crashes"] += 1
        batch = batch_of(jobs, most := chance.randint(1, len(jobs)))
        for _ in range(chance.choice((1, 1, 2, 3))):
            run(world, steps(batch, world))
        done["batches"] += 1
        done["cut"] += len(batch) < most
        jobs = jobs[len(batch) :]
    return done


@pytest.mark.timeout(0)
def test_batches_that_crash_anywhere_have_the_result_of_their_jobs_in_order(
    pytestconfig: pytest.Config, seed: int
) -> None:
    batches, done, number = int(pytestconfig.getoption("--batches")), Counter[str](), 0
    while done["batches"] < batches:
        check(random.Random(f"{seed}/{number}"), done, f"--seed {seed}, sequence {number}")
        number += 1
    print(f"{number:,} sequences, {dict(done)}")


def check(chance: random.Random, done: Counter[str], name: str) -> None:
    few = chance.choice(((REFS[2],), (REFS[0], REFS[1], NEW), (*REFS[3:],), (*REFS, NEW)))
    maker = Maker(chance, few)
    world = maker.world()
    jobs = maker.jobs(chance.randint(1, MOST_JOBS))
    expected = stored(in_order(world, jobs))
    world = {ref: dict(points) for ref, points in world.items()}
    done += drain(world, list(jobs), chance)
    assert stored(world) == expected, name
