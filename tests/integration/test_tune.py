"""``memory-worker tune``: collections of the app and of older workers get the index settings of new ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from qdrant_client import grpc as q

from memory_worker.contract import Search
from memory_worker.store.bulk import BulkMode
from memory_worker.store.indexing import held, is_held, restored, threshold_of
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.store.tuning import Tuner
from tests.commands import run_here
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import DIMENSION, axis, memory

MEMORIES = CollectionRef("memory")
Tune = Callable[..., Awaitable[str]]


@pytest.fixture
async def of_the_app(store: VectorStore, shape: CollectionShape, engine: Contents) -> str:
    """A collection that the main app has created, with a point. The collection of documents is new."""
    name = shape.base("memory")
    engine.create(name)
    types = {
        "user_id": q.FieldType.FieldTypeInteger,
        "category": q.FieldType.FieldTypeKeyword,
        "_point_id": q.FieldType.FieldTypeKeyword,
        "active": q.FieldType.FieldTypeBool,
    }
    for field, field_type in types.items():
        engine.index(name, field, field_type)
    await store.prepare()
    await store.apply(MEMORIES, [UpsertPoints((memory(7, 1),))], timeout_s=5)
    return name


@pytest.fixture
def tune(redis_url: str, qdrant_url: str, redis_prefix: str, shape: CollectionShape) -> Tune:
    """Run the command and return its output."""
    environment = {
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": redis_prefix,
        "QDRANT_MEMORIES_COLLECTION": shape.base("memory"),
        "QDRANT_DOCUMENTS_COLLECTION": shape.base("document"),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        **({"QDRANT_API_KEY": API_KEY} if API_KEY else {}),
    }

    async def run(*arguments: str, status: int = 0) -> str:
        return await asyncio.to_thread(run_here, "tune", *arguments, status=status, **environment)

    return run


def settings_of(engine: Contents, name: str) -> dict[str, Any]:
    """What `tune` may change of a collection."""
    info = engine.info(name)
    return {
        "hnsw": (info.config.hnsw_config.m, info.config.hnsw_config.payload_m),
        "threshold": threshold_of(info),
        "indexes": {field: schema.params.SerializeToString() for field, schema in info.payload_schema.items()},
    }


async def test_a_collection_of_the_app_becomes_like_a_new_one(
    of_the_app: str, store: VectorStore, engine: Contents, shape: CollectionShape, tune: Tune
) -> None:
    before = settings_of(engine, of_the_app)
    assert [plan["name"] for plan in json.loads(await tune("--json")) if plan["differences"]] == [of_the_app]
    assert settings_of(engine, of_the_app) == before

    assert "QDRANT_TENANT_INDEX" in await tune("--yes", of_the_app)
    fresh = CollectionRef("memory", "fresh")
    await store.collections.ensure(fresh)
    tuned, new = settings_of(engine, of_the_app), settings_of(engine, shape.name(fresh))
    assert (tuned["hnsw"], tuned["threshold"]) == (new["hnsw"], new["threshold"])
    assert tuned["indexes"]["user_id"] == new["indexes"]["user_id"] != before["indexes"]["user_id"]
    assert "Nothing to change" in await tune()
    assert settings_of(engine, of_the_app) == tuned

    hits, _ = await store.search(Search(user_id=7, vector=axis(0)), timeout_s=5)
    assert [hit.point_id for hit in hits] == ["mem_7_1"]


async def test_bulk_mode_stays_on(
    of_the_app: str, store: VectorStore, engine: Contents, shape: CollectionShape
) -> None:
    bulk = BulkMode(store.collections)
    await bulk.on()
    await Tuner(store.collections).apply(MEMORIES)
    assert threshold_of(engine.info(of_the_app)) == held(restored(threshold_of(engine.info(shape.base("document")))))
    assert all(state.held for state in await bulk.state())
    await bulk.off()
    assert not is_held(threshold_of(engine.info(of_the_app)))
    assert (await Tuner(store.collections).plan(MEMORIES)).differences == []  # type: ignore[union-attr]


async def test_nothing_is_changed_without_a_yes(of_the_app: str, engine: Contents, tune: Tune) -> None:
    before = settings_of(engine, of_the_app)
    assert "Go on?" in await tune(status=1)
    assert settings_of(engine, of_the_app) == before


async def test_other_collections_are_refused(tune: Tune) -> None:
    assert "not a collection of this deployment: elsewhere" in await tune("elsewhere", status=2)
