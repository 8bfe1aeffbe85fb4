"""Plans of random jobs on a real engine: the stored payloads are those of the model of Qdrant and of the oracle.

    pytest -n 0 --no-cov tests/integration/test_plan_on_engine.py --batches 3000 --seed 7

So the model in `tests.unit.engine_model`, `Condition.matches` and the filters of the worker agree with Qdrant. A field
with an index has values of one type here, because Qdrant's indexes treat others differently than its payloads: 1.0 is 1
there, and text is not different from 1. No job can write such values.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from memory_worker.contract import Condition, Upsert, WriteJob, matches
from memory_worker.ingest.plan import needs_existing, plan
from memory_worker.store.operations import CollectionRef, DeleteMatching, PatchPoints
from memory_worker.store.store import VectorStore
from memory_worker.store.values import payload_of
from tests.integration.conftest import Contents
from tests.integration.kinds import WITHOUT_INDEX, insert, opened, read
from tests.unit.plan_world import KINDS, ODD, Maker, World, batch_of, in_order, stored

SHARE = 20
"""One in so many of ``--batches`` is run here, because a real engine is slower."""


@pytest.fixture
async def store(qdrant_url: str, qdrant_channel: grpc.Channel) -> AsyncIterator[VectorStore]:
    async with opened(qdrant_url, qdrant_channel) as found:
        yield found


async def write(store: VectorStore, jobs: list[WriteJob]) -> None:
    """Apply one batch as `memory_worker.ingest.writer` does."""
    existing: list[CollectionRef] = []
    if needs_existing(jobs, KINDS):
        for job in jobs:
            if isinstance(job, Upsert):
                await store.collections.ensure(CollectionRef(job.kind, job.namespace))
        existing = list(await store.collections.reach())
    for step in plan(jobs, existing, KINDS):
        await store.apply(step.ref, step.operations, timeout_s=30)


@pytest.mark.timeout(0)
async def test_plans_have_the_same_result_on_an_engine(
    pytestconfig: pytest.Config, seed: int, store: VectorStore, engine: Contents
) -> None:
    chance, batches, expected = random.Random(seed), int(pytestconfig.getoption("--batches")) // SHARE, World()
    sequence = 0
    while batches > 0:
        sequence += 1
        users = (2 * sequence + 100, 2 * sequence + 101)  # so that earlier points do not matter
        names = {"memory": users, "document": users, "note": (f"ann{sequence}",)}
        maker = Maker(chance, users=names, odd=WITHOUT_INDEX)
        await insert(engine, store, world := maker.world())
        expected = {ref: {**expected.get(ref, {}), **world.get(ref, {})} for ref in {*expected, *world}}
        jobs = maker.jobs(20)
        expected = in_order(expected, jobs)
        rest = list(jobs)
        while rest:
            batch = batch_of(rest, chance.randint(1, 12))
            await write(store, batch)
            rest, batches = rest[len(batch) :], batches - 1
        found = await asyncio.to_thread(read, engine, store)
        assert found == stored(expected), f"sequence {sequence}: {jobs}"


CONDITIONS = (
    *(Condition("category", "a"), Condition("category", ""), Condition("file_id", 1), Condition("file_id", 0)),
    *(Condition("embedding_model_id", 1, "is_not"), Condition("created", 2, "below")),
    *(Condition("_version", 2, "below_or_absent"), Condition("created", 2**53, "below")),
)
TEXTS = ["a", "b", "", "1", ["a", "b"], ["b"]]
NUMBERS = [0, 1, 2, 3, -1, [3, 1], [2], 2**53 - 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]
ANY = [*ODD, *TEXTS, *NUMBERS, False, 2.0, 0.5]
ABSENT = [None, [], [None]]


@pytest.mark.parametrize("kind", KINDS)
async def test_conditions_hold_for_the_same_values_as_filters(kind: str, store: VectorStore, engine: Contents) -> None:
    """Each condition selects points to patch, and then to delete. Some kinds have an index on the field, some not."""
    ref, user_id = CollectionRef(kind), "ann" if kind == "note" else 1
    name = store.collections.name(ref)
    for condition in CONDITIONS:
        index = KINDS[kind].indexes.get(condition.field)
        values = [*{None: ANY, "integer": NUMBERS, "keyword": TEXTS}[index], *ABSENT]
        payloads = [{"user_id": user_id, "n": n, condition.field: value} for n, value in enumerate(values)]
        payloads.append({"user_id": user_id, "n": len(values)})
        for payload in payloads:
            engine.insert(name, payload["n"], [1.0], **payload)
        selected = {payload["n"] for payload in payloads if matches(payload, [condition])}
        await store.apply(ref, [PatchPoints(user_id, where=(condition,), set={"found": True})], timeout_s=30)
        found = [payload_of(point.payload) for point in engine.whole(name)]
        wrong = [payload for payload in found if payload.get("found", False) is not (payload["n"] in selected)]
        assert not wrong, f"{condition} with index {index}"
        await store.apply(ref, [DeleteMatching(user_id, (condition,))], timeout_s=30)
        assert {payload_of(point.payload)["n"] for point in engine.whole(name)} == set(range(len(payloads))) - selected
        await store.apply(ref, [DeleteMatching(user_id)], timeout_s=30)
