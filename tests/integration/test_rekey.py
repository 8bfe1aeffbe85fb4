"""Points under integer ids get their UUIDs, beside live workers."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import partition_of
from memory_worker.contract.errors import PartitionMismatch, StoreUnavailable
from memory_worker.contract.kinds import primary_id
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.repair import rekey as rekeying
from memory_worker.repair.rekey import IntegerIds, Rekeyed, Rekeyer, RekeyOptions
from memory_worker.store import stored_points
from memory_worker.store.operations import CollectionRef
from memory_worker.store.pins import pin_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import AnswerLimits, VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.acceptance.processes import run_command
from tests.commands import run_here
from tests.integration.conftest import API_KEY, Contents, MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import DIMENSION, PARTITIONS, axis, memory
from tests.integration.leases import give_back, held_lease
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
FEEDBACK = CollectionRef("memory", "feedback_positive")
VECTOR = [0.6, 0.8, *[0.0] * (DIMENSION - 2)]


@pytest.fixture
def rekeyer(redis: Redis, keys: Keys, store: VectorStore) -> Rekeyer:
    return Rekeyer(redis, keys, store, RekeyOptions(partitions=PARTITIONS, settle_s=0))


def older(engine: Contents, collection: str, primary: int, user_id: int, number: int, **payload: Any) -> None:
    """Write a memory as older versions of the main app did."""
    fields = {"user_id": user_id, "active": True, "_point_id": f"mem_{user_id}_{number}", **payload}
    engine.insert(collection, primary, VECTOR, **fields)


@pytest.fixture
def memories(shape: CollectionShape, engine: Contents) -> str:
    """The base collection of memories, made by the main app."""
    engine.create(shape.base("memory"))
    return shape.base("memory")


def origins(engine: Contents, collection: str) -> str | None:
    pin = pin_of(engine.info(collection), MEMORIES)
    return pin and pin.origin


async def test_a_count_changes_nothing(
    rekeyer: Rekeyer, registry: CollectionRegistry, engine: Contents, memories: str
) -> None:
    for number in range(5):
        older(engine, memories, number, 1, number)
    engine.insert(memories, primary_id("mem_1_3"), VECTOR, user_id=1, _point_id="mem_1_3")
    engine.insert(memories, 50, VECTOR, user_id=1)
    engine.insert(memories, 51, VECTOR, user_id=2, _point_id="mem_1_4")
    assert await rekeyer.count(MEMORIES) == IntegerIds(memories, integer_ids=7, twins=1, unowned=2)
    assert await registry.names() == {}
    assert len(engine.whole(memories)) == 8


async def test_points_are_moved_as_they_are(
    rekeyer: Rekeyer, registry: CollectionRegistry, engine: Contents, memories: str
) -> None:
    for number in range(5):
        older(engine, memories, 2**63 + number, 1, number, value=f"v{number}", tags=["a", {"b": None}], rank=1.5)
    before = engine.payloads(memories)
    seen: list[int] = []
    assert await rekeyer.rekey(MEMORIES, seen.append) == Rekeyed(memories, moved=5)
    assert sum(seen) == 5
    assert engine.payloads(memories) == before
    assert engine.primary_ids(memories) == {primary_id(f"mem_1_{number}") for number in range(5)}
    assert engine.vector(memories, primary_id("mem_1_0")) == pytest.approx(VECTOR)
    assert await registry.names() == {"memory": "rekeyed"}
    assert origins(engine, memories) == "rekeyed"
    assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories)


async def test_the_copy_under_the_uuid_stays(rekeyer: Rekeyer, engine: Contents, memories: str) -> None:
    for number in (1, 2):
        older(engine, memories, number, 1, number, value="old")
    engine.insert(memories, primary_id("mem_1_1"), VECTOR, user_id=1, _point_id="mem_1_1", value="new")
    assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories, moved=1, deleted=1)
    assert {point_id: payload["value"] for point_id, payload in engine.payloads(memories).items()} == {
        "mem_1_1": "new",
        "mem_1_2": "old",
    }


async def test_of_several_older_copies_the_last_updated_is_moved(
    rekeyer: Rekeyer, engine: Contents, memories: str
) -> None:
    for primary, updated in ((1, 10), (2, 30), (3, 20)):
        older(engine, memories, primary, 1, 1, updated=updated)
    older(engine, memories, 4, 1, 1)
    assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories, moved=1, deleted=3)
    assert engine.payloads(memories)["mem_1_1"]["updated"] == 30


@pytest.mark.parametrize(
    "payload",
    [
        {"user_id": 1},
        {"user_id": 1, "_point_id": 5},
        {"user_id": 1, "_point_id": "mem_2_1"},
        {"user_id": 1, "_point_id": "doc_1_1_1"},
        {"user_id": 1, "_point_id": "mem_1_"},
        {"user_id": 1, "_point_id": "mem_01_1"},
        {"user_id": True, "_point_id": "mem_1_1"},
        {"user_id": "1", "_point_id": "mem_1_1"},
        {"_point_id": "mem_1_1"},
        {},
    ],
)
async def test_a_point_without_a_valid_id_is_left(
    rekeyer: Rekeyer, registry: CollectionRegistry, engine: Contents, memories: str, payload: dict[str, Any]
) -> None:
    engine.insert(memories, 7, VECTOR, **payload)
    older(engine, memories, 8, 1, 2)
    assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories, moved=1, left=1, unowned=1)
    assert engine.primary_ids(memories) == {7, primary_id("mem_1_2")}
    assert await registry.names() == {"memory": "adopted"}
    assert origins(engine, memories) == "adopted"


async def test_namespaces_and_documents_are_rekeyed(
    rekeyer: Rekeyer, engine: Contents, store: VectorStore, registry: CollectionRegistry
) -> None:
    for ref in (FEEDBACK, DOCUMENTS):
        engine.create(store.collections.name(ref))
    await registry.add("memory:feedback_positive", "adopted")
    older(engine, store.collections.name(FEEDBACK), 1, 1, 1)
    engine.insert(store.collections.name(DOCUMENTS), 1, VECTOR, user_id=3, file_id=4, _point_id="doc_3_4_0")
    assert set(await store.collections.existing()) == {FEEDBACK, DOCUMENTS}
    for ref, point_id in ((FEEDBACK, "mem_1_1"), (DOCUMENTS, "doc_3_4_0")):
        assert (await rekeyer.rekey(ref)).moved == 1
        assert engine.primary_ids(store.collections.name(ref)) == {primary_id(point_id)}


async def test_a_collection_that_does_not_exist_has_nothing_to_move(rekeyer: Rekeyer, store: VectorStore) -> None:
    with pytest.raises(StoreUnavailable):
        await rekeyer.rekey(MEMORIES)


async def test_more_points_than_fit_into_a_page_or_an_answer(
    redis: Redis, keys: Keys, qdrant_url: str, shape: CollectionShape, engine: Contents, memories: str,
    registry: CollectionRegistry, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stored_points, "PAGE", 7)
    for number in range(30):
        older(engine, memories, number, number % 3 + 1, number, text="x" * 1000)
    limits = AnswerLimits(4_096, 4_096)
    async with VectorStore(qdrant_url, shape, registry=registry, api_key=API_KEY, answers=limits) as store:
        rekeyer = Rekeyer(redis, keys, store, RekeyOptions(partitions=1))
        assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories, moved=30)
    assert len(engine.payloads(memories)) == 30


async def test_an_interrupted_run_is_repeated(
    redis: Redis, keys: Keys, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, engine: Contents, memories: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rekeying, "_AT_ONCE", 2)
    for number in range(6):
        older(engine, memories, number, 1, number)
    before = engine.payloads(memories)
    requests = 0

    async def apply_half_of_the_second(call: Call) -> Any:
        nonlocal requests
        requests += 1
        if requests == 2:
            del call.request.operations[1:]
            await call.forward()
            raise Refusal(grpc.StatusCode.UNAVAILABLE)
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = apply_half_of_the_second
    rekeyer = Rekeyer(redis, keys, proxied_store, RekeyOptions(partitions=1, settle_s=0))
    with pytest.raises(StoreUnavailable):
        await rekeyer.rekey(MEMORIES)
    assert len(engine.whole(memories)) == 8
    assert await rekeyer.rekey(MEMORIES) == Rekeyed(memories, moved=2, deleted=2)
    assert engine.payloads(memories) == before


async def test_a_request_in_doubt_keeps_its_lease_for_a_while(
    redis: Redis, keys: Keys, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, engine: Contents, memories: str
) -> None:
    older(engine, memories, 1, 1, 1)

    async def lose_the_answer(call: Call) -> Any:
        await call.forward()
        raise Refusal(grpc.StatusCode.UNAVAILABLE)

    qdrant_proxy.rules[UPDATE] = lose_the_answer
    with pytest.raises(StoreUnavailable):
        await Rekeyer(redis, keys, proxied_store, RekeyOptions(partitions=1, settle_s=5)).rekey(MEMORIES)
    assert 0 < await redis.pttl(keys.lease(0)) <= 5_000


async def test_a_drain_that_is_writing_is_waited_for(
    redis: Redis, keys: Keys, store: VectorStore, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy,
    engine: Contents, memories: str,
) -> None:  # fmt: skip
    """The drain has sent the new content, which is not applied yet. Rekeying must not bring the old content back."""
    older(engine, memories, 1, 1, 1, value="old")
    writing, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait(call: Call) -> Any:
        writing.set()
        await may_go_on.wait()
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = wait
    await pushed(memory(1, 1, value="new"))
    drain = asyncio.create_task(drainer().drain(0))
    await writing.wait()
    rekeyer = Rekeyer(redis, keys, store, RekeyOptions(partitions=1))
    run = asyncio.create_task(rekeyer.rekey(MEMORIES))
    done, _ = await asyncio.wait([run], timeout=0.3)
    assert not done
    assert engine.primary_ids(memories) == {1}
    may_go_on.set()
    assert (await drain).ending == "empty"
    assert await run == Rekeyed(memories)
    assert {point_id: payload["value"] for point_id, payload in engine.payloads(memories).items()} == {"mem_1_1": "new"}


async def test_one_partition_is_held_at_a_time_and_all_are_released(
    rekeyer: Rekeyer, redis: Redis, keys: Keys, engine: Contents, memories: str
) -> None:
    users = range(1, 9)
    assert len({partition_of(user_id, PARTITIONS) for user_id in users}) > 2
    for user_id in users:
        older(engine, memories, user_id, user_id, 1)
    partition = partition_of(4, PARTITIONS)
    lease = await held_lease(redis, keys, partition)
    run = asyncio.create_task(rekeyer.rekey(MEMORIES))
    done, _ = await asyncio.wait([run], timeout=0.3)
    assert not done
    held = [number for number in range(PARTITIONS) if await redis.exists(keys.lease(number))]
    assert held == [partition]
    await give_back(redis, keys, lease)
    assert (await run).moved == 8
    assert not [number for number in range(PARTITIONS) if await redis.exists(keys.lease(number))]


async def test_a_wrong_number_of_partitions_is_refused(
    rekeyer: Rekeyer, redis: Redis, keys: Keys, engine: Contents, memories: str
) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS + 1))
    older(engine, memories, 1, 1, 1)
    with pytest.raises(PartitionMismatch):
        await rekeyer.rekey(MEMORIES)
    assert engine.primary_ids(memories) == {1}


async def test_rekeying_beside_live_workers_loses_and_revives_nothing(
    rekeyer: Rekeyer, settings: MakeSettings, queue: MemoryQueue, engine: Contents, memories: str
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    choose = random.Random(seed)
    expected: dict[str, str] = {}
    for number in range(300):
        user_id = number % 12 + 1
        older(engine, memories, number, user_id, number, value="old", category=f"c{number % 3}")
        expected[f"mem_{user_id}_{number}"] = "old"
    receipts = []
    async with running(settings()):
        run = asyncio.create_task(rekeyer.rekey(MEMORIES))
        for count in range(400):
            number = choose.randrange(320)
            user_id = number % 12 + 1
            point_id, kind = f"mem_{user_id}_{number}", choose.randrange(20)
            if kind < 9:
                job = queue.upsert(user_id=user_id, point_id=point_id, vector=axis(1), payload={"value": f"n{count}"})
                expected[point_id] = f"n{count}"
            elif kind < 19:
                job = queue.delete(user_id=user_id, point_id=point_id)
                expected.pop(point_id, None)
            else:
                job = queue.purge(user_id=user_id, kind="memory")
                expected = {key: value for key, value in expected.items() if not key.startswith(f"mem_{user_id}_")}
            receipts.append(await job)
        await run
        for receipt in receipts:
            await queue.wait_applied(receipt, timeout=20)
        assert {key: payload["value"] for key, payload in engine.payloads(memories).items()} == expected
    assert engine.primary_ids(memories) == {primary_id(point_id) for point_id in expected}
    assert origins(engine, memories) == "rekeyed"


def test_the_command_counts_and_moves(
    redis_url: str, qdrant_url: str, shape: CollectionShape, redis_prefix: str, engine: Contents, memories: str
) -> None:
    environment = {
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        **({"QDRANT_API_KEY": API_KEY} if API_KEY else {}),
        "QDRANT_MEMORIES_COLLECTION": shape.base("memory"),
        "QDRANT_DOCUMENTS_COLLECTION": shape.base("document"),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        "QUEUE_PREFIX": redis_prefix,
    }

    for number in range(3):
        older(engine, memories, number, 1, number)
    engine.insert(memories, 9, VECTOR, user_id=1)
    assert json.loads(run_here("rekey", "--json", **environment)) == [
        {"collection": memories, "integer_ids": 4, "twins": 0, "unowned": 1}
    ]
    assert "memory-worker rekey --apply" in run_here("rekey", **environment)
    assert len([one for one in engine.primary_ids(memories) if isinstance(one, int)]) == 4
    shown = run_command("rekey", "--apply", **environment).stdout
    assert memories in shown
    assert "1 points have no _point_id" in shown
    assert json.loads(run_here("rekey", "--apply", "--json", **environment)) == [
        {"collection": memories, "moved": 0, "deleted": 0, "left": 1, "unowned": 1}
    ]
