"""A dead letter is replayed unless that would undo a newer job. A purge of its user removes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from memory_worker.contract import Delete, Get, Purge, Receipt, WriteJob
from memory_worker.contract.errors import Superseded
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.integration.conftest import Everything, MakeDrainer, Push
from tests.integration.jobs import memory
from tests.integration.proxies import UPDATE, QdrantProxy, refusing


@pytest.fixture
async def died(drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy) -> Receipt:
    """Return the receipt of an upsert that Qdrant refused, but would accept now."""
    qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
    [entry_id] = await pushed(memory(1, 1, value="old"))
    assert (await drainer().drain(0)).dead == 1
    qdrant_proxy.rules.clear()
    return Receipt(0, entry_id)


@pytest.fixture
def dead(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, 1)


Value = Callable[[], Awaitable[str | None]]


@pytest.fixture
def value(proxied_store: VectorStore) -> Value:
    """Return the value that is stored for the point."""

    async def read() -> str | None:
        points, _ = await proxied_store.get(Get(user_id=1, point_ids=["mem_1_1"]), timeout_s=5)
        return points[0].payload["value"] if points else None

    return read


async def guards(everything: Everything) -> set[bytes]:
    return {name for name in await everything() if b"guarded" in name}


async def test_a_replay_is_applied_if_no_newer_job_touched_the_point(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Value, everything: Everything
) -> None:
    await pushed(memory(1, 2), memory(2, 1), Purge(user_id=2))
    await drainer().drain(0)
    assert await dead.replay(died) is not None
    result = await drainer().drain(0)
    assert (result.jobs, result.dead) == (1, 0)
    assert await value() == "old"
    assert not await guards(everything)


@pytest.mark.parametrize("newer", [memory(1, 1, value="new"), Delete(user_id=1, point_ids=["mem_1_1"])], ids=type)
async def test_a_replay_is_refused_if_a_newer_job_was_applied_unless_it_is_forced(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Value, newer: WriteJob
) -> None:
    await pushed(newer)
    await drainer().drain(0)
    before = await value()
    with pytest.raises(Superseded):
        await dead.replay(died)
    assert await dead.get(died) is not None
    assert await value() == before

    assert await dead.replay(died, force=True) is not None
    assert (await drainer().drain(0)).dead == 0
    assert await value() == "old"


async def test_a_replay_behind_a_newer_job_becomes_a_dead_letter_again(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Value
) -> None:
    await pushed(memory(1, 1, value="new"))
    replay = await dead.replay(died)
    assert replay is not None
    result = await drainer().drain(0)
    assert (result.jobs, result.dead) == (2, 1)
    assert await value() == "new"
    found = await dead.get(replay)
    assert found is not None
    assert found.reason == "superseded"
    with pytest.raises(Superseded):
        await dead.replay(replay)


async def test_a_batch_of_many_thousand_points_is_compared_with_the_dead_letters(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push
) -> None:
    ids = [[f"mem_1_{number}" for number in range(first, first + 1000)] for first in range(2, 12_000, 1000)]
    await pushed(*(Delete(user_id=1, point_ids=part) for part in ids))
    assert (await drainer().drain(0)).dead == 0
    assert await dead.replay(died) is not None


async def test_a_purge_of_the_user_removes_the_dead_letter(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, everything: Everything
) -> None:
    await pushed(Purge(user_id=2), Purge(user_id=1, kind="document"))
    await drainer().drain(0)
    assert await dead.get(died) is not None
    await pushed(Purge(user_id=1))
    await drainer().drain(0)
    assert await dead.get(died) is None
    assert not await guards(everything)


async def test_a_replay_behind_a_purge_of_its_user_is_removed(
    died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Value
) -> None:
    await pushed(Purge(user_id=1))
    replay = await dead.replay(died)
    assert replay is not None
    await drainer(batch_max_jobs=1).drain(0)
    assert await value() is None
    assert await dead.get(replay) is None


async def test_a_dropped_dead_letter_leaves_no_guard(died: Receipt, dead: DeadLetters, everything: Everything) -> None:
    assert await dead.drop([died]) == 1
    assert not await guards(everything)
