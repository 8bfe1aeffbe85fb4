"""Settings of the engine for many small tenants: what collections are made of, and what is measured of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
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
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import Contents
from tests.integration.jobs import axis, chunk, memory, renamed
from tests.integration.proxies import Call, QdrantProxy

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
GRAPHS_OF_USERS = {"hnsw_m": 0, "hnsw_payload_m": 16}


def index(engine: Contents, collection: str, field: str) -> dict[str, Any]:
    """The options of a payload index that are set."""
    params = engine.info(collection).payload_schema[field].params
    variant = params.WhichOneof("index_params")
    return {} if variant is None else {found.name: value for found, value in getattr(params, variant).ListFields()}


@pytest.fixture
async def tenants(settings: Callable[..., Settings]) -> AsyncIterator[VectorStore]:
    """A store that names tenants, in collections with a graph for each user."""
    async with open_store(settings(qdrant_hnsw_m=0, qdrant_hnsw_payload_m=16, qdrant_tenant_index=True)) as opened:
        yield opened


async def test_graphs_of_users_and_of_nothing_else(
    tenants: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await tenants.prepare()
    for name_kind in ("memory", "document"):
        name = shape.base(name_kind)
        hnsw = engine.info(name).config.hnsw_config
        assert (hnsw.m, hnsw.payload_m) == (0, 16)
        user = index(engine, name, "user_id")
        assert user["lookup"] is True
        assert "enable_hnsw" not in user or user["enable_hnsw"]
        assert not user.get("range")
        without_graph = set(engine.info(name).payload_schema) - {"user_id"}
        assert without_graph == {*shape.indexes(name_kind)} - {"user_id"} | {"_tenant"}
        for field in without_graph:
            assert index(engine, name, field)["enable_hnsw"] is False
        assert index(engine, name, "_tenant")["is_tenant"] is True
    assert index(engine, shape.base("document"), "file_id")["range"] is True


async def test_as_ever_unless_asked(store: VectorStore, shape: CollectionShape, engine: Contents) -> None:
    await store.prepare()
    for kind in ("memory", "document"):
        name = shape.base(kind)
        info = engine.info(name)
        assert not info.config.hnsw_config.HasField("payload_m")
        assert "_tenant" not in info.payload_schema
        without_graph = {field for field in info.payload_schema if "enable_hnsw" in index(engine, name, field)}
        assert without_graph == {*shape.indexes(kind)} & {"created", "updated", "embedding_model_id", "_version"}


async def test_a_collection_that_is_there_keeps_its_graph(
    tenants: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    engine.create(shape.base("memory"))
    await tenants.collections.ensure(MEMORIES)
    info = engine.info(shape.base("memory"))
    assert info.config.hnsw_config.m == 16
    assert not info.config.hnsw_config.HasField("payload_m")
    # Its missing indexes are added, as always, to serve the graph that it has.
    assert not index(engine, shape.base("memory"), "category")
    assert index(engine, shape.base("memory"), "_tenant") == {"is_tenant": True, "enable_hnsw": False}


async def test_the_worker_says_who_the_tenant_is(
    tenants: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    written = (memory(7, 1), memory(8, 1, _tenant="7"), memory(9, 1, _tenant={"a": 1}))
    await tenants.apply(MEMORIES, [UpsertPoints(written)], timeout_s=5)
    await tenants.apply(DOCUMENTS, [UpsertPoints((chunk(2**63 - 1, 1, 0),))], timeout_s=5)
    found = engine.payloads(shape.base("memory"))
    assert {point_id: payload["_tenant"] for point_id, payload in found.items()} == {
        "mem_7_1": "7",
        "mem_8_1": "8",
        "mem_9_1": "9",
    }
    assert [payload["_tenant"] for payload in engine.payloads(shape.base("document")).values()] == [str(2**63 - 1)]
    assert engine.info(shape.base("memory")).payload_schema["_tenant"].points == 3
    await tenants.probe(MEMORIES)
    assert engine.points(shape.base("memory")) == {"mem_7_1", "mem_8_1", "mem_9_1"}


async def test_no_tenant_is_written_unless_asked(store: VectorStore, shape: CollectionShape, engine: Contents) -> None:
    written = (memory(7, 1), memory(8, 1, _tenant="a field like any other"))
    await store.apply(MEMORIES, [UpsertPoints(written)], timeout_s=5)
    found = engine.payloads(shape.base("memory"))
    assert "_tenant" not in found["mem_7_1"]
    assert found["mem_8_1"]["_tenant"] == "a field like any other"


async def test_the_apps_own_points_are_found_and_purged_all_the_same(
    tenants: VectorStore, shape: CollectionShape, engine: Contents
) -> None:
    await tenants.apply(MEMORIES, [UpsertPoints((memory(7, 1), memory(8, 1)))], timeout_s=5)
    vector = np.frombuffer(axis(0), dtype=np.float32).tolist()
    engine.insert(shape.base("memory"), 4_711, vector, user_id=7, _point_id="mem_7_old", active=True)
    hits, _ = await tenants.search(Search(user_id=7, vector=axis(0)), timeout_s=5)
    assert {hit.point_id for hit in hits} == {"mem_7_1", "mem_7_old"}
    await tenants.apply(MEMORIES, [messages.DeleteMatching(7)], timeout_s=5)
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

    @pytest.mark.parametrize(
        ("chosen", "verdict"),
        [
            ({}, "ok"),
            ({"hnsw_m": 0}, "warning"),
            ({"hnsw_m": 0, "hnsw_payload_m": 0}, "warning"),
            (GRAPHS_OF_USERS, "ok"),
            ({"hnsw_payload_m": 0}, "ok"),
        ],
    )
    async def test_no_graph_at_all_is_told(
        self, look: Callable[..., Any], chosen: dict[str, int], verdict: str
    ) -> None:
        assert (await look(**chosen))["HNSW settings"].verdict == verdict

    async def test_a_qdrant_that_builds_other_graphs_too_is_told(
        self,
        settings: Callable[..., Settings],
        redis: Redis,
        qdrant_proxy: QdrantProxy,
    ) -> None:
        async def be_older(call: Call) -> Any:
            answer = await call.forward()
            answer.version = "1.16.3"
            return answer

        qdrant_proxy.rules["Qdrant/HealthCheck"] = be_older
        for m, verdict in ((0, "warning"), (16, "ok")):
            chosen = settings(qdrant_url=qdrant_proxy.url, qdrant_hnsw_m=m, qdrant_hnsw_payload_m=16)
            async with open_store(chosen) as store:
                found = {check.name: check async for check in run_checks(chosen, redis, store)}
            assert found["HNSW settings"].verdict == verdict

    async def test_what_a_collection_lacks_is_told(
        self, look: Callable[..., Any], shape: CollectionShape, store: VectorStore, engine: Contents
    ) -> None:
        await store.prepare()
        name = f"collection {shape.base('memory')}"
        assert (await look())[name].verdict == "ok"
        asked = await look(**GRAPHS_OF_USERS, quantization="int8")
        assert asked[name].verdict == "warning"
        for variable in ("QDRANT_HNSW_M 0, the collection has 16", "QDRANT_HNSW_PAYLOAD_M 16", "QDRANT_QUANTIZATION"):
            assert variable in asked[name].seen
        assert engine.info(shape.base("memory")).config.hnsw_config.m == 16
        tenant = (await look(tenant_index=True))[name]
        assert (tenant.verdict, tenant.seen) == ("warning", "no index on _tenant")

    async def test_a_collection_made_so_is_fine(
        self, look: Callable[..., Any], shape: CollectionShape, tenants: VectorStore
    ) -> None:
        await tenants.prepare()
        assert (await look(**GRAPHS_OF_USERS, tenant_index=True))[f"collection {shape.base('memory')}"].verdict == "ok"


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
    of_users, of_all = (
        np.mean([len(some & right) / 10 for some, right in zip(found[False][kind], found[True][kind], strict=True)])
        for kind in (0, 1)
    )
    assert of_users > 0.95
    assert of_all < 0.8


def channel_to(url: str) -> grpc.Channel:
    return grpc.insecure_channel(url.removeprefix("http://"))


async def _write(url: str, shape: CollectionShape, vectors: Any, users: int) -> None:
    jobs = tuple(
        Upsert(
            user_id=1 + number % users,
            point_id=f"mem_{1 + number % users}_{number}",
            vector=vector.tobytes(),
            payload={"user_id": 1 + number % users, "_point_id": f"mem_{number}", "active": True},
        )
        for number, vector in enumerate(vectors)
    )
    async with VectorStore(url, shape) as store:
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
