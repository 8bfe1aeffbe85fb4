"""Bulk mode: indexing is held back and resumed in every collection, even if it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import Search
from memory_worker.contract.errors import ConfigurationError, StoreUnavailable
from memory_worker.inspection.check import run_checks
from memory_worker.inspection.status import collect_status
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.settings import Settings
from memory_worker.store.bulk import BulkMode
from memory_worker.store.indexing import held, is_held
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.acceptance.processes import run_command
from tests.commands import run_here
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import DIMENSION, axis, memory, renamed
from tests.integration.proxies import Call, QdrantProxy, Refusal

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
FEEDBACK = CollectionRef("memory", "feedback_positive")
UPDATE_COLLECTION = "Collections/Update"


@pytest.fixture
def bulk(store: VectorStore) -> BulkMode:
    return BulkMode(store.collections)


def threshold(engine: Contents, collection: str) -> int:
    return engine.info(collection).config.optimizer_config.indexing_threshold


def all_thresholds(engine: Contents, shape: CollectionShape) -> dict[str, int]:
    ours = (name for name in engine.names() if name.startswith((shape.base("memory"), shape.base("document"))))
    return {name: threshold(engine, name) for name in ours}


async def set_threshold(store: VectorStore, ref: CollectionRef, threshold_kb: int) -> None:
    await store.collections.ensure(ref)
    await store.collections.set_indexing_threshold(ref, threshold_kb)


async def test_bulk_mode_is_switched_on_and_off(
    store: VectorStore, bulk: BulkMode, shape: CollectionShape, engine: Contents
) -> None:
    await store.collections.ensure(FEEDBACK)
    await set_threshold(store, MEMORIES, 12_345)
    await set_threshold(store, DOCUMENTS, 0)  # set by the operator
    before = all_thresholds(engine, shape)
    assert before[shape.base("memory")] == 12_345

    states = await bulk.on()
    assert len(states) == 3
    assert all(state.held for state in states)
    assert {state.name: state.threshold_kb for state in states} == before
    assert all(map(is_held, all_thresholds(engine, shape).values()))

    assert await bulk.on() == await bulk.state() == states
    states = await bulk.off()
    assert not any(state.held for state in states)
    assert all_thresholds(engine, shape) == before
    assert await bulk.off() == states
    assert all_thresholds(engine, shape) == before


async def test_bulk_mode_can_be_switched_off_without_collections(bulk: BulkMode) -> None:
    assert await bulk.off() == await bulk.state() == []


async def test_points_are_found_in_bulk_mode(store: VectorStore, bulk: BulkMode) -> None:
    await bulk.on()
    await store.apply(MEMORIES, [UpsertPoints((memory(1, 1),))], timeout_s=5)
    hits, _ = await store.search(Search(user_id=1, vector=axis(0)), timeout_s=5)
    assert [hit.point_id for hit in hits] == ["mem_1_1"]
    (memories,) = (state for state in await bulk.state() if not state.name.endswith("documents"))
    assert memories.points == 1


async def test_bulk_mode_makes_the_collections_of_an_empty_server(
    bulk: BulkMode, shape: CollectionShape, engine: Contents
) -> None:
    """Most imports go into a new Qdrant."""
    await bulk.on()
    assert set(all_thresholds(engine, shape)) == {shape.base("memory"), shape.base("document")}
    assert all(map(is_held, all_thresholds(engine, shape).values()))


async def test_a_collection_that_is_made_in_bulk_mode_is_in_bulk_mode(
    store: VectorStore, bulk: BulkMode, shape: CollectionShape, engine: Contents
) -> None:
    usual = (await bulk.on())[0].threshold_kb
    await store.collections.ensure(FEEDBACK)
    assert threshold(engine, store.collections.name(FEEDBACK)) == held(usual)
    await bulk.off()
    assert set(all_thresholds(engine, shape).values()) == {usual}
    await store.collections.ensure(CollectionRef("memory", "later"))
    assert set(all_thresholds(engine, shape).values()) == {usual}


async def test_a_collection_that_is_made_while_bulk_mode_ends_is_restored(
    proxied_store: VectorStore,
    qdrant_proxy: QdrantProxy,
    shape: CollectionShape,
    engine: Contents,
    registry: CollectionRegistry,
) -> None:
    bulk = BulkMode(proxied_store.collections)
    usual = (await bulk.on())[0].threshold_kb
    late = f"{shape.base('memory')}_late"

    async def make_it(call: Call) -> Any:
        if late not in engine.names():
            engine.create(late)
            await registry.add("memory:late", "made")
            await proxied_store.collections.set_indexing_threshold(CollectionRef("memory", "late"), held(usual))
        return await call.forward()

    qdrant_proxy.rules[UPDATE_COLLECTION] = make_it
    assert not any(state.held for state in await bulk.off())
    assert threshold(engine, late) == usual


async def test_an_interrupted_switch_can_be_repeated(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    bulk = BulkMode(proxied_store.collections)
    for ref in (MEMORIES, DOCUMENTS, FEEDBACK):
        await proxied_store.collections.ensure(ref)
    before = all_thresholds(engine, shape)
    passing = 0

    async def fail_after_one(call: Call) -> Any:
        nonlocal passing
        passing += 1
        if passing != 1:
            raise Refusal(grpc.StatusCode.UNAVAILABLE)
        await call.forward()
        raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED)  # it was done, but the caller does not know

    for turn in (bulk.on, bulk.off):
        qdrant_proxy.rules[UPDATE_COLLECTION] = fail_after_one
        passing = 0
        with pytest.raises(StoreUnavailable):
            await turn()
        halfway = [state.held for state in await bulk.state()]
        assert sorted(halfway) in ([False, False, True], [False, True, True])
        qdrant_proxy.rules.clear()
        await turn()
    assert all_thresholds(engine, shape) == before


async def test_a_collection_that_is_dropped_in_between_is_left_out(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, engine: Contents
) -> None:
    bulk = BulkMode(proxied_store.collections)
    name = await proxied_store.collections.ensure(FEEDBACK)

    async def drop_after(call: Call) -> Any:
        answer = await call.forward()
        if name in engine.names():
            engine.drop(name)
        return answer

    qdrant_proxy.rules["Collections/List"] = drop_after
    assert await bulk.state() == []


async def test_bulk_mode_refuses_a_collection_that_would_accept_no_more_writes(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    async def keep_back(call: Call) -> Any:
        answer = await call.forward()
        answer.result.config.optimizer_config.prevent_unoptimized = True
        answer.result.config.optimizer_config.max_segment_size = 200_000
        return answer

    bulk = BulkMode(proxied_store.collections)
    await proxied_store.prepare()
    before = all_thresholds(engine, shape)
    qdrant_proxy.rules["Collections/Get"] = keep_back
    with pytest.raises(ConfigurationError, match="prevent_unoptimized"):
        await bulk.on()
    assert all_thresholds(engine, shape) == before


async def test_status_and_check_show_bulk_mode(
    settings: Callable[..., Settings], redis: Redis, keys: Keys, store: VectorStore, bulk: BulkMode
) -> None:
    async def seen() -> tuple[set[bool], str]:
        status = await collect_status(redis, keys, store)
        checks = {check.name: check async for check in run_checks(settings(), redis, store)}
        return {info.indexing_held for info in status.collections}, checks["bulk mode"].verdict

    await store.prepare()
    assert await seen() == ({False}, "ok")
    await bulk.on()
    assert await seen() == ({True}, "warning")
    await bulk.off()
    assert await seen() == ({False}, "ok")


async def test_collections_of_another_installation_are_not_changed(
    qdrant_url: str, shape: CollectionShape, bulk: BulkMode, engine: Contents
) -> None:
    other = renamed(shape, memory=f"{shape.base('memory')}-2", document=f"{shape.base('document')}-2")
    async with VectorStore(qdrant_url, other, api_key=API_KEY) as store:
        await store.prepare()
        await bulk.on()
        assert not is_held(threshold(engine, other.base("memory")))
        await store.collections.ensure(FEEDBACK)
        assert not is_held(threshold(engine, store.collections.name(FEEDBACK)))


def test_the_bulk_command_switches_bulk_mode(
    redis_url: str, qdrant_url: str, shape: CollectionShape, redis_prefix: str
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

    def states(shown: str) -> list[bool]:
        return [state["held"] for state in json.loads(shown)]

    assert "no collections" in run_here("bulk", **environment)
    assert states(run_command("bulk", "on", "--json", **environment).stdout) == [True, True]
    assert states(run_here("bulk", "--json", **environment)) == [True, True]
    shown = run_here("bulk", **environment)
    assert shape.base("memory") in shown
    assert "held back" in shown
    assert "memory-worker bulk off" in run_here("status", **environment)
    assert states(run_here("bulk", "off", "--json", **environment)) == [False, False]
    assert "held back" not in run_here("bulk", **environment)
