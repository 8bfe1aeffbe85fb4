"""Settings of the engine for many small tenants: what collections are made of, and what is measured of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from msgspec import UNSET, UnsetType
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.contract import Search, Upsert
from memory_worker.contract.kinds import MEMORY
from memory_worker.embedded.engines import start_edge
from memory_worker.inspection.check import run_checks
from memory_worker.inspection.checks import Check
from memory_worker.runtime.wiring import open_store
from memory_worker.settings import Settings
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.indexing import held, threshold_of
from memory_worker.store.operations import CollectionRef, DeletePoints, UpsertPoints
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.server_version import FIRST_WITH_RELIABLE_USER_GRAPHS, Version, version_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import axis, chunk, memory, renamed
from tests.integration.proxies import Call, QdrantProxy, Rule

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
CATEGORIES = ("personal", "preference", "fact", "work", "other")


def index(engine: Contents, collection: str, field: str) -> dict[str, Any]:
    """The options of a payload index that are set."""
    params = engine.info(collection).payload_schema[field].params
    variant = params.WhichOneof("index_params")
    if variant is None:
        return {}
    return {found.name: value for found, value in getattr(params, variant).ListFields() if value}


def no_graph(engine: Contents, collection: str, field: str) -> bool:
    """Whether the values of a field are to get no graphs."""
    params = engine.info(collection).payload_schema[field].params
    variant = params.WhichOneof("index_params")
    if variant is None:
        return False
    options = getattr(params, variant)
    return options.HasField("enable_hnsw") and not options.enable_hnsw


def version_is(version: str) -> Rule:
    """A rule for health checks: the server has this version."""

    async def answer(call: Call) -> Any:
        answer = await call.forward()
        answer.version = version
        return answer

    return answer


@pytest.fixture
def server_version(qdrant_channel: grpc.Channel) -> Version:
    return version_of(q.QdrantStub(qdrant_channel).HealthCheck(q.HealthCheckRequest()).version)


@pytest.fixture
async def user_graphs(settings: Callable[..., Settings]) -> AsyncIterator[VectorStore]:
    """A store that asks for a graph for each user, on any server."""
    async with open_store(settings(qdrant_hnsw_m=0, qdrant_hnsw_payload_m=16)) as opened:
        yield opened


async def test_graphs_of_users_and_of_nothing_else(
    user_graphs: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await user_graphs.prepare()
    for kind in ("memory", "document"):
        name = shape.base(kind)
        hnsw = engine.info(name).config.hnsw_config
        assert (hnsw.m, hnsw.payload_m, hnsw.full_scan_threshold) == (0, 16, 100_000)
        user = index(engine, name, "user_id")
        assert user == {"lookup": True, "is_principal": True}
        assert engine.info(name).payload_schema["user_id"].params.integer_index_params.HasField("range")
        without_graph = set(engine.info(name).payload_schema) - {"user_id"}
        assert without_graph == {*shape.indexes(kind)} - {"user_id"}
        for field in without_graph:
            assert no_graph(engine, name, field)
    assert index(engine, shape.base("document"), "file_id")["range"] is True


async def test_a_new_collection_suits_the_server(
    store: VectorStore, shape: CollectionShape, engine: Contents, server_version: Version
) -> None:
    await store.prepare()
    for kind in ("memory", "document"):
        name = shape.base(kind)
        config = engine.info(name).config
        found = (config.hnsw_config.m, config.hnsw_config.payload_m, config.optimizer_config.indexing_threshold)
        user_graphs = server_version >= FIRST_WITH_RELIABLE_USER_GRAPHS
        assert found == ((0, 16, 100_000) if user_graphs else (16, 0, 400_000))
        assert index(engine, name, "user_id") == {"lookup": True, "is_principal": True}


async def test_an_older_server_gets_its_usual_graph(
    proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
) -> None:
    qdrant_proxy.rules["Qdrant/HealthCheck"] = version_is("1.19.0")
    await proxied_store.prepare()
    for kind in ("memory", "document"):
        name = shape.base(kind)
        info = engine.info(name)
        assert info.config.hnsw_config.m == 16
        assert not info.config.hnsw_config.HasField("payload_m")
        assert info.config.optimizer_config.indexing_threshold == 400_000
        without_graph = {field for field in info.payload_schema if no_graph(engine, name, field)}
        assert without_graph == {*shape.indexes(kind)} & {"created", "updated", "embedding_model_id", "_version"}


async def test_settings_win_over_the_server(
    settings: Callable[..., Settings], shape: CollectionShape, engine: Contents
) -> None:
    chosen = settings(qdrant_hnsw_m=24, qdrant_indexing_threshold_kb=5, qdrant_tenant_index=False)
    async with open_store(chosen) as opened:
        await opened.prepare()
    config = engine.info(shape.base("memory")).config
    assert (config.hnsw_config.m, config.optimizer_config.indexing_threshold) == (24, 5)
    assert index(engine, shape.base("memory"), "user_id") == {}


async def test_users_of_text_have_a_tenant_index(
    settings: Callable[..., Settings], tmp_path: Path, shape: CollectionShape, engine: Contents
) -> None:
    kinds = tmp_path / "kinds.toml"
    kinds.write_text(f'[memory]\ncollection = "{shape.base("memory")}"\nuser_ids = "string"\n', encoding="utf-8")
    async with open_store(settings(kinds_file=kinds)) as opened:
        await opened.prepare()
    assert index(engine, shape.base("memory"), "user_id")["is_tenant"] is True


async def test_a_collection_that_is_there_keeps_its_graph(
    user_graphs: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    engine.create(shape.base("memory"))
    engine.index(shape.base("memory"), "user_id", q.FieldType.FieldTypeInteger)
    await user_graphs.collections.ensure(MEMORIES)
    info = engine.info(shape.base("memory"))
    assert info.config.hnsw_config.m == 16
    assert not info.config.hnsw_config.HasField("payload_m")
    assert index(engine, shape.base("memory"), "user_id") == {}
    # Its missing indexes are added, as always, to serve the graph that it has.
    assert not index(engine, shape.base("memory"), "category")


async def test_a_collection_with_the_tenant_field_of_a_worker_0_1_still_gets_it(
    store: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    engine.create(shape.base("memory"))
    engine.index(shape.base("memory"), "_tenant", q.FieldType.FieldTypeKeyword)
    written = (memory(7, 1), memory(8, 1, _tenant="7"), memory(9, 1, _tenant={"a": 1}))
    await store.apply(MEMORIES, [UpsertPoints(written)], timeout_s=5)
    await store.apply(DOCUMENTS, [UpsertPoints((chunk(7, 1, 0, _tenant="a field like any other"),))], timeout_s=5)
    found = engine.payloads(shape.base("memory"))
    assert {point_id: payload["_tenant"] for point_id, payload in found.items()} == {
        "mem_7_1": "7",
        "mem_8_1": "8",
        "mem_9_1": "9",
    }
    [payload] = engine.payloads(shape.base("document")).values()
    assert payload["_tenant"] == "a field like any other"
    await store.probe(MEMORIES)
    assert engine.points(shape.base("memory")) == {"mem_7_1", "mem_8_1", "mem_9_1"}


async def test_the_apps_own_points_are_found_and_purged_all_the_same(
    user_graphs: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await user_graphs.apply(MEMORIES, [UpsertPoints((memory(7, 1), memory(8, 1)))], timeout_s=5)
    vector = np.frombuffer(axis(0), dtype=np.float32).tolist()
    engine.insert(shape.base("memory"), 4_711, vector, user_id=7, _point_id="mem_7_old", active=True)
    hits, _ = await user_graphs.search(Search(user_id=7, vector=axis(0)), timeout_s=5)
    assert {hit.point_id for hit in hits} == {"mem_7_1", "mem_7_old"}
    await user_graphs.apply(MEMORIES, [messages.DeleteMatching(7)], timeout_s=5)
    assert engine.points(shape.base("memory")) == {"mem_8_1"}


async def test_searches_make_up_for_quantization(settings: Callable[..., Settings], qdrant_proxy: QdrantProxy) -> None:
    asked = []

    async def look(call: Call) -> Any:
        asked.append(call.request.params.quantization.rescore)
        return await call.forward()

    qdrant_proxy.rules["Points/Query"] = look
    for quantization in ("none", "int8"):
        async with open_store(settings(qdrant_url=qdrant_proxy.url, qdrant_quantization=quantization)) as store:
            await store.apply(MEMORIES, [UpsertPoints((memory(1, 1), memory(1, 2, at=1)))], timeout_s=5)
            hits, _ = await store.search(Search(user_id=1, vector=axis(0)), timeout_s=5)
            assert [hit.point_id for hit in hits] == ["mem_1_1"]
    assert asked == [False, True]


class TestChecks:
    @pytest.fixture
    def look(self, settings: Callable[..., Settings], redis: Redis) -> Callable[..., Any]:
        async def look(**overrides: Any) -> dict[str, Check]:
            chosen = settings(**{f"qdrant_{name}": value for name, value in overrides.items()})
            async with open_store(chosen) as store:
                return {check.name: check async for check in run_checks(chosen, redis, store)}

        return look

    async def test_a_new_collection_is_fine(
        self, look: Callable[..., Any], shape: CollectionShape, store: VectorStore
    ) -> None:
        await store.prepare()
        found = await look()
        for name in ("HNSW settings", f"collection {shape.base('memory')}", f"collection {shape.base('document')}"):
            assert (found[name].verdict, found[name].advice) == ("ok", "")

    async def test_what_a_collection_lacks_is_told(
        self, look: Callable[..., Any], shape: CollectionShape, store: VectorStore, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"))
        engine.index(shape.base("memory"), "user_id", q.FieldType.FieldTypeInteger)
        await store.prepare()
        name = f"collection {shape.base('memory')}"
        default = (await look())[name]
        assert default.verdict == "ok"
        for setting in ("QDRANT_INDEXING_THRESHOLD_KB", "the collection has 10,000", "QDRANT_TENANT_INDEX true"):
            assert setting in default.seen
        assert f"memory-worker tune {shape.base('memory')}" in default.advice
        asked = await look(hnsw_m=24, quantization="int8")
        assert asked[name].verdict == "warning"
        for variable in ("QDRANT_HNSW_M 24, the collection has 16", "QDRANT_QUANTIZATION int8"):
            assert variable in asked[name].seen
        assert engine.info(shape.base("memory")).config.hnsw_config.m == 16


def test_an_integer_index_gives_each_large_user_a_graph(tmp_path: Path, shape: CollectionShape) -> None:
    """Those of a user are found as if all had been compared; whoever leaves the user out misses most."""
    dimension, points, users = 64, 3_000, 3
    vectors = np.random.default_rng(1).normal(size=(points, dimension)).astype(np.float32)
    asked = replace(shape, dimension=dimension)
    with start_edge(tmp_path) as engine, channel_to(engine.url) as channel:
        params = q.VectorParams(size=dimension, distance=q.Distance.Cosine)
        q.CollectionsStub(channel).Create(
            q.CreateCollection(
                collection_name=shape.base("memory"),
                vectors_config=q.VectorsConfig(params=params),
                # Graphs from 40 points on, where it takes 40,000 as a rule: 256 bytes each.
                hnsw_config=q.HnswConfigDiff(m=0, payload_m=16, ef_construct=100, full_scan_threshold=10),
                optimizers_config=q.OptimizersConfigDiff(indexing_threshold=1),
            )
        )
        asyncio.run(_write(engine.url, asked, vectors, users))
    with start_edge(tmp_path, optimize=True, timeout_s=60) as engine:
        found = {
            exact: asyncio.run(_asked(engine.url, shape.base("memory"), vectors, users, exact=exact))
            for exact in (False, True)
        }
        asyncio.run(_find_all(engine.url, asked, points=points, users=users))
    of_users, of_all = (
        np.mean([len(some & right) / 10 for some, right in zip(found[False][kind], found[True][kind], strict=True)])
        for kind in (0, 1)
    )
    assert of_users > 0.95
    assert of_all < 0.8


@pytest.mark.skipif("TEST_QDRANT_URL" not in os.environ, reason="the embedded engine builds graphs when it starts")
async def test_a_server_finds_large_users_in_a_new_collection(qdrant_url: str, shape: CollectionShape) -> None:
    chosen = replace(shape, dimension=64, indexing_threshold_kb=1)
    async with VectorStore(qdrant_url, chosen, api_key=API_KEY) as store:
        name = await store.collections.ensure(MEMORIES)
        await store.collections.update(
            q.UpdateCollection(collection_name=name, hnsw_config=q.HnswConfigDiff(full_scan_threshold=10))
        )
        await _write(qdrant_url, chosen, np.random.default_rng(3).normal(size=(2_000, 64)).astype(np.float32), users=1)
        async with asyncio.timeout(60):
            while not _has_graphs(await store.collections.describe(MEMORIES)):  # noqa: ASYNC110 - Qdrant signals nothing
                await asyncio.sleep(0.1)
    await _find_all(qdrant_url, chosen, points=2_000, users=1)


def _has_graphs(info: q.CollectionInfo | None) -> bool:
    return info is not None and info.status == q.CollectionStatus.Green and info.indexed_vectors_count > 0


async def _find_all(url: str, shape: CollectionShape, *, points: int, users: int) -> None:
    """Search in graphs of users with a further filter, and once half of the points were deleted.

    Before Qdrant 1.20, graphs of single users cannot do it: a search finds nothing in a graph whose entry point it may
    not use.
    """
    vectors = np.random.default_rng(4).normal(size=(20, shape.dimension)).astype(np.float32)
    async with VectorStore(url, shape, api_key=API_KEY) as store:

        async def find(category: str | UnsetType) -> None:
            for user in range(1, users + 1):
                jobs = [
                    Search(user_id=user, vector=vector.tobytes(), limit=10, min_score=-1.0, category=category)
                    for vector in vectors
                ]
                found = [len((await store.search(job, timeout_s=5))[0]) for job in jobs]
                assert np.mean(found) > 8, (user, category)

        for category in (UNSET, *CATEGORIES):
            await find(category)
        half = [f"mem_{1 + number % users}_{number}" for number in range(points) if number % 2]
        for start in range(0, len(half), 500):
            await store.apply(MEMORIES, [DeletePoints(tuple(half[start : start + 500]))], timeout_s=10)
        await find(UNSET)


def channel_to(url: str) -> grpc.Channel:
    return grpc.insecure_channel(url.removeprefix("http://"))


async def _write(url: str, shape: CollectionShape, vectors: Any, users: int) -> None:
    jobs = tuple(
        Upsert(
            user_id=1 + number % users,
            point_id=f"mem_{1 + number % users}_{number}",
            vector=vector.tobytes(),
            payload={
                "user_id": 1 + number % users,
                "_point_id": f"mem_{1 + number % users}_{number}",
                "category": CATEGORIES[number // users % len(CATEGORIES)],
                "active": True,
            },
        )
        for number, vector in enumerate(vectors)
    )
    async with VectorStore(url, shape, api_key=API_KEY) as store:
        await store.apply(MEMORIES, [UpsertPoints(jobs)], timeout_s=30)


async def _asked(url: str, collection: str, vectors: Any, users: int, *, exact: bool) -> tuple[Any, Any]:
    of_users, of_all = [], []
    async with open_channel(url) as channel:
        rpc = QdrantRpc(channel, api_key=None, timeout_s=5)
        for number in range(0, 200, 4):
            vector = (vectors[number] + vectors[number + 1]).tobytes()
            job = Search(user_id=1 + number % users, vector=vector, limit=10, min_score=-1.0)
            request = messages.search(collection, MEMORY, job)
            request.params.exact = exact
            for found in (of_users, of_all):
                answer = await rpc.call("searching", rpc.query, request)
                found.append({hit.id.uuid for hit in answer.result})
                del request.filter.must[:]
    return of_users, of_all


class TestEmbeddedEngine:
    """What Edge builds by, once it is started anew and optimized."""

    NAME = "things"
    INT8 = q.ScalarQuantization(type=q.QuantizationType.Int8, always_ram=True)
    DIMENSION = 64

    def make(self, url: str, shape: CollectionShape, **options: Any) -> None:
        params = q.VectorParams(size=self.DIMENSION, distance=q.Distance.Cosine)
        vectors = q.VectorsConfig(params=params)
        with channel_to(url) as channel:
            q.CollectionsStub(channel).Create(
                q.CreateCollection(collection_name=self.NAME, vectors_config=vectors, **options)
            )
        numbers = np.random.default_rng(2).normal(size=(500, self.DIMENSION)).astype(np.float32)
        asyncio.run(_write(url, replace(renamed(shape, memory=self.NAME), dimension=self.DIMENSION), numbers, 5))

    def update(self, url: str, **changes: Any) -> None:
        with channel_to(url) as channel:
            q.CollectionsStub(channel).Update(q.UpdateCollection(collection_name=self.NAME, **changes))

    def info(self, url: str) -> q.CollectionInfo:
        with channel_to(url) as channel:
            return Contents(channel).info(self.NAME)

    def test_nothing_is_indexed_in_bulk_mode_and_quantization_comes_later(
        self, tmp_path: Path, shape: CollectionShape
    ) -> None:
        with start_edge(tmp_path) as engine:
            self.make(engine.url, shape, optimizers_config=q.OptimizersConfigDiff(indexing_threshold=1))
            self.update(engine.url, optimizers_config=q.OptimizersConfigDiff(indexing_threshold=held(1)))
        with start_edge(tmp_path, optimize=True) as engine:
            info = self.info(engine.url)
            assert threshold_of(info) == held(1)
            assert (info.points_count, info.indexed_vectors_count) == (500, 0)
            few = q.OptimizersConfigDiff(indexing_threshold=1)
            self.update(
                engine.url, optimizers_config=few, quantization_config=q.QuantizationConfigDiff(scalar=self.INT8)
            )
        assert not list(tmp_path.rglob("quantized.data"))
        with start_edge(tmp_path, optimize=True) as engine:
            info = self.info(engine.url)
            assert info.indexed_vectors_count == 500
            assert info.config.quantization_config.scalar.always_ram
            self.update(engine.url, optimizers_config=q.OptimizersConfigDiff(indexing_threshold=held(1)))
        assert list(tmp_path.rglob("quantized.data"))
        with start_edge(tmp_path, optimize=True) as engine:  # what is indexed stays so
            assert self.info(engine.url).indexed_vectors_count == 500

    def test_what_it_cannot_do_is_refused(self, tmp_path: Path, shape: CollectionShape) -> None:
        with start_edge(tmp_path) as engine:
            self.make(engine.url, shape)
            before = self.info(engine.url).config
            for changes in (
                {"optimizers_config": q.OptimizersConfigDiff(prevent_unoptimized=True)},
                {"quantization_config": q.QuantizationConfigDiff(disabled=q.Disabled())},
                {"params": q.CollectionParamsDiff(on_disk_payload=False)},
            ):
                with pytest.raises(grpc.RpcError) as raised:
                    self.update(engine.url, **changes)
                assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
            self.update(engine.url, optimizers_config=q.OptimizersConfigDiff(prevent_unoptimized=False))
            after = self.info(engine.url).config
            after.optimizer_config.ClearField("prevent_unoptimized")
            assert after == before
