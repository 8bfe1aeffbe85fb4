"""Writes of several drains go as one request, and fail as if they had not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from worker.contract import Upsert
from worker.errors import StoreRefused, StoreUnavailable
from worker.ingest.joint import JointWriter
from worker.ingest.plan import CollectionPlan, plan
from worker.store.operations import CollectionRef, Operation, UpsertPoints
from worker.store.store import VectorStore

POISON = "mem_2_1"


class Store:
    """Notes which points come together; refuses a request with a poisonous one, or all of them."""

    def __init__(self, *, poison: str = "", down: bool = False) -> None:
        self.seen: list[list[str]] = []
        self.timeouts_s: list[float] = []
        self._poison = poison
        self._down = down

    async def apply(self, _: CollectionRef, operations: Sequence[Operation], *, timeout_s: float) -> None:
        found = [point.point_id for one in operations if isinstance(one, UpsertPoints) for point in one.points]
        self.seen.append(found)
        self.timeouts_s.append(timeout_s)
        await asyncio.sleep(0)
        if self._down:
            raise StoreUnavailable("down", code="UNAVAILABLE")
        if self._poison in found:
            raise StoreRefused("poison")


def write(user_id: int, *numbers: int, namespace: str | None = None) -> CollectionPlan:
    jobs = [
        Upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=b"", payload={}, namespace=namespace)
        for number in numbers
    ]
    return plan(jobs)[0]


async def written(store: Store, *plans: CollectionPlan, most_jobs: int = 10) -> list[BaseException | None]:
    writer = JointWriter(cast("VectorStore", store), most_jobs=most_jobs)
    return await asyncio.gather(*(writer.write(one, timeout_s=5) for one in plans), return_exceptions=True)


async def test_what_is_asked_for_at_once_is_one_request() -> None:
    store = Store()
    assert await written(store, write(1, 1), write(2, 1, 2), write(3, 1)) == [None] * 3
    assert store.seen == [["mem_1_1", "mem_2_1", "mem_2_2", "mem_3_1"]]


async def test_no_larger_than_a_batch_and_of_one_collection() -> None:
    store = Store()
    plans = [write(1, 1, 2), write(2, 1, 2), write(3, 1), write(4, 1, namespace="good")]
    assert await written(store, *plans, most_jobs=3) == [None] * 4
    assert sorted(store.seen) == [["mem_1_1", "mem_1_2"], ["mem_2_1", "mem_2_2", "mem_3_1"], ["mem_4_1"]]


async def test_one_that_is_refused_is_refused_alone() -> None:
    store = Store(poison=POISON)
    first, second, third = await written(store, write(1, 1), write(2, 1), write(3, 1))
    assert first is third is None
    assert isinstance(second, StoreRefused)
    assert len(store.seen) == 4


async def test_an_outage_is_everybodys() -> None:
    store = Store(down=True)
    ends = await written(store, write(1, 1), write(2, 1))
    assert [type(end) for end in ends] == [StoreUnavailable] * 2
    assert len(store.seen) == 1


async def test_the_shortest_time_is_that_of_all() -> None:
    store = Store()
    writer = JointWriter(cast("VectorStore", store), most_jobs=10)
    await asyncio.gather(writer.write(write(1, 1), timeout_s=9), writer.write(write(2, 1), timeout_s=2))
    assert store.timeouts_s == [pytest.approx(2, abs=0.5)]
