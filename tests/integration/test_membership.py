"""The collections of a deployment: no other collection is changed, and none of the deployment is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Purge, Search, WriteJob, checked
from memory_worker.contract.errors import CollectionUnfit, ConfigurationError
from memory_worker.contract.kinds import MEMORY
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.inspection.check import run_checks
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.store.operations import CollectionRef, DeleteMatching, DeletePoints, UpsertPoints
from memory_worker.store.pins import pin_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import API_KEY, Contents, Dead, MakeSettings, running
from tests.integration.jobs import DIMENSION, LIMITS, axis, bodies, memory, renamed
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, failing

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
FEEDBACK, STAGING = CollectionRef("memory", "feedback"), CollectionRef("memory", "staging")

Drain = Callable[..., Any]


@pytest.fixture
def open_worker(qdrant_url: str, shape: CollectionShape, registry: CollectionRegistry) -> Callable[..., Any]:
    """Open the store of another worker, of the same deployment or of another one."""

    @asynccontextmanager
    async def opened(**overrides: Any) -> AsyncIterator[VectorStore]:
        of = overrides.pop("registry", registry)
        url = overrides.pop("url", qdrant_url)
        async with VectorStore(url, replace(shape, **overrides), registry=of, api_key=API_KEY) as store:
            yield store

    return opened


@pytest.fixture
def drain(redis: Redis, keys: Keys, store: VectorStore) -> Drain:
    """Push jobs and drain them with ``store`` or another store; return how the drain ended."""

    async def push_and_drain(*jobs: WriteJob, by: VectorStore | None = None) -> str:
        await push(redis, keys, 1, bodies(*jobs))
        options = DrainOptions(partitions=1, limits=LIMITS, slice_s=10, settle_s=0)
        return (await Drainer(redis, keys, by or store, options).drain(0)).ending

    return push_and_drain


def purge(user_id: int = 1, **options: Any) -> Purge:
    return checked(Purge(user_id=user_id, **options), LIMITS)


def delete(number: int, namespace: str | None) -> Delete:
    return checked(Delete(user_id=1, point_ids=[f"mem_1_{number}"], namespace=namespace), LIMITS)


def insert(engine: Contents, collection: str, *, size: int = DIMENSION) -> None:
    """Write a point of user 1 without the worker."""
    engine.insert(collection, 7, [1.0] * size, user_id=1, _point_id="mem_1_7", active=True)


class TestForeign:
    """A collection of another program whose name begins like those of the deployment."""

    @pytest.mark.parametrize("size", [DIMENSION, 2 * DIMENSION])
    async def test_a_purge_does_not_reach_a_foreign_collection(
        self, drain: Drain, store: VectorStore, shape: CollectionShape, engine: Contents, size: int
    ) -> None:
        await store.prepare()
        for name in (
            f"{shape.base('memory')}_staging",
            f"{shape.base('memory')}_staging_2",
            f"{shape.base('document')}_staging",
        ):
            engine.create(name, size=size)
            insert(engine, name, size=size)
        assert await drain(memory(1, 1), memory(2, 1), purge()) == "empty"
        assert engine.points(shape.base("memory")) == {"mem_2_1"}
        for name in (
            f"{shape.base('memory')}_staging",
            f"{shape.base('memory')}_staging_2",
            f"{shape.base('document')}_staging",
        ):
            assert engine.points(name) == {"mem_1_7"}
            assert not engine.info(name).payload_schema

    async def test_a_foreign_collection_is_not_described(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(f"{shape.base('memory')}_staging")
        await store.prepare()
        assert {info.name for info in await store.info()} == {shape.base("memory"), shape.base("document")}
        assert await store.collections.existing() == [MEMORIES, DOCUMENTS]
        assert await store.collections.foreign() == [f"{shape.base('memory')}_staging"]

    async def test_a_collection_that_cannot_be_described_blocks_no_purge(
        self,
        drain: Drain,
        proxied_store: VectorStore,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        await proxied_store.prepare()
        engine.create(f"{shape.base('memory')}_staging")

        async def forbid_staging(call: Call) -> Any:
            if call.request.collection_name.endswith("_staging"):
                raise Refusal(grpc.StatusCode.PERMISSION_DENIED)
            return await call.forward()

        qdrant_proxy.rules["Collections/Get"] = forbid_staging
        await proxied_store.collections.restore()
        assert await drain(memory(1, 1), purge(), by=proxied_store) == "empty"

    @pytest.mark.parametrize(
        "job",
        [memory(1, 1, namespace="staging"), delete(1, "staging"), purge(kind="memory", namespace="staging")],
        ids=type,
    )
    async def test_a_job_adds_its_collection_to_the_deployment(
        self, drain: Drain, open_worker: Any, shape: CollectionShape, engine: Contents, registry: CollectionRegistry,
        job: WriteJob,
    ) -> None:  # fmt: skip
        name = f"{shape.base('memory')}_staging"
        engine.create(name)
        insert(engine, name)
        assert await drain(job) == "empty"
        assert (await registry.names())["memory:staging"] == "adopted"
        async with open_worker() as another:
            assert await drain(purge(), by=another) == "empty"
        assert engine.points(name) == set()

    async def test_a_read_does_not_add_its_collection(
        self, store: VectorStore, shape: CollectionShape, engine: Contents, registry: CollectionRegistry
    ) -> None:
        engine.create(f"{shape.base('memory')}_staging")
        job = checked(Search(user_id=1, vector=axis(0), namespace="staging"), LIMITS)
        await store.search(job, timeout_s=5)
        assert await registry.names() == {}

    async def test_a_delete_in_a_missing_namespace_registers_nothing(
        self, drain: Drain, registry: CollectionRegistry, engine: Contents, shape: CollectionShape
    ) -> None:
        assert await drain(delete(1, "staging"), purge(kind="memory", namespace="staging")) == "empty"
        assert "memory:staging" not in await registry.names()
        assert f"{shape.base('memory')}_staging" not in engine.names()

    async def test_a_namespace_of_the_settings_belongs_to_the_deployment_once_it_exists(
        self, drain: Drain, open_worker: Any, shape: CollectionShape, engine: Contents
    ) -> None:
        name = f"{shape.base('memory')}_feedback"
        async with open_worker(namespaces=("feedback", "never")) as worker:
            await worker.prepare()
            assert await worker.collections.existing() == [MEMORIES, DOCUMENTS]
            engine.create(name, size=2 * DIMENSION)  # a purge works with any dimension
            insert(engine, name, size=2 * DIMENSION)
            assert await worker.collections.existing() == [MEMORIES, DOCUMENTS, FEEDBACK]
            assert await drain(purge(), by=worker) == "empty"
        assert engine.points(name) == set()
        assert f"{shape.base('memory')}_never" not in engine.names()


class TestAliased:
    """A namespace or a base collection whose name is an alias."""

    @pytest.fixture
    def feedback(self, shape: CollectionShape, engine: Contents) -> str:
        real = shape.base("memory").replace("memories", "of-2026")
        engine.create(real)
        engine.alias(f"{shape.base('memory')}_feedback", real)
        return real

    async def test_a_purge_reaches_the_collection_of_the_alias(
        self, drain: Drain, open_worker: Any, engine: Contents, feedback: str
    ) -> None:
        assert await drain(memory(1, 1, namespace="feedback"), memory(2, 1, namespace="feedback")) == "empty"
        insert(engine, feedback)
        assert engine.points(feedback) == {"mem_1_1", "mem_2_1", "mem_1_7"}
        async with open_worker() as another:
            assert FEEDBACK in await another.collections.existing()
            assert await drain(purge(), by=another) == "empty"
        assert engine.points(feedback) == {"mem_2_1"}

    async def test_a_base_collection_may_be_an_alias(
        self, drain: Drain, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(f"{shape.base('memory')}_v2")
        engine.alias(shape.base("memory"), f"{shape.base('memory')}_v2")
        await store.prepare()
        assert await drain(memory(1, 1), memory(2, 1)) == "empty"
        assert engine.points(f"{shape.base('memory')}_v2") == {"mem_1_1", "mem_2_1"}
        assert [info.name for info in await store.info()] == [shape.base("memory"), shape.base("document")]
        assert await store.collections.foreign() == []
        assert await drain(purge()) == "empty"
        assert engine.points(f"{shape.base('memory')}_v2") == {"mem_2_1"}

    async def test_an_alias_of_another_program_is_not_purged(
        self, drain: Drain, store: VectorStore, shape: CollectionShape, engine: Contents, feedback: str
    ) -> None:
        insert(engine, feedback)
        assert await drain(purge()) == "empty"
        assert engine.points(feedback) == {"mem_1_7"}
        assert await store.collections.foreign() == [f"{shape.base('memory')}_feedback"]


class TestUnfit:
    """A namespace of another dimension: deletes and purges are applied there, and an upsert becomes a dead letter."""

    @pytest.fixture
    def staging(self, shape: CollectionShape, engine: Contents) -> str:
        name = f"{shape.base('memory')}_staging"
        engine.create(name, size=2 * DIMENSION)
        insert(engine, name, size=2 * DIMENSION)
        return name

    async def test_an_upsert_becomes_a_dead_letter_and_other_jobs_are_applied(
        self, drain: Drain, dead_letters: Dead, shape: CollectionShape, engine: Contents, staging: str
    ) -> None:
        jobs = [memory(1, number) for number in range(6)]
        jobs[2:2] = [memory(1, 10, namespace="staging")]
        jobs[5:5] = [memory(2, 11, namespace="staging"), memory(2, 1, namespace="other")]
        assert await drain(*jobs) == "empty"
        assert engine.points(shape.base("memory")) == {f"mem_1_{number}" for number in range(6)}
        assert engine.points(f"{shape.base('memory')}_other") == {"mem_2_1"}
        found = await dead_letters()
        assert [dead_letter.reason for dead_letter in found] == ["refused", "refused"]
        for dead_letter in found:
            assert f"collection {staging} has dimension 16, but QDRANT_VECTOR_DIMENSION is 8" in dead_letter.detail
        assert engine.points(staging) == {"mem_1_7"}

    async def test_a_refused_upsert_does_not_add_it_to_the_deployment(
        self, drain: Drain, registry: CollectionRegistry, engine: Contents, staging: str
    ) -> None:
        assert await drain(memory(1, 10, namespace="staging"), purge()) == "empty"
        assert "memory:staging" not in await registry.names()
        assert engine.points(staging) == {"mem_1_7"}

    @pytest.mark.parametrize("job", [delete(7, "staging"), purge(kind="memory", namespace="staging")], ids=type)
    async def test_deletes_and_purges_are_applied(
        self, drain: Drain, dead_letters: Dead, engine: Contents, staging: str, job: WriteJob
    ) -> None:
        assert await drain(job) == "empty"
        assert engine.points(staging) == set()
        assert await dead_letters() == []

    @pytest.mark.parametrize("job", [delete(7, "staging"), purge(kind="memory", namespace="staging")], ids=type)
    async def test_an_outage_causes_no_dead_letter(
        self, drain: Drain, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, dead_letters: Dead,
        engine: Contents, staging: str, job: WriteJob,
    ) -> None:  # fmt: skip
        qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.INTERNAL)
        drained = [await drain(*jobs, by=proxied_store) for jobs in ([job], *[[]] * 8)]
        assert drained == ["outage"] * 9
        qdrant_proxy.rules.clear()
        assert await drain(by=proxied_store) == "empty"
        assert await dead_letters() == []
        assert engine.points(staging) == set()

    async def test_a_refused_delete_becomes_a_dead_letter(
        self, drain: Drain, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, dead_letters: Dead,
        staging: str,
    ) -> None:  # fmt: skip
        async def refuse_one(call: Call) -> Any:
            if "mem_1_7" in str(call.request):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT)
            return await call.forward()

        qdrant_proxy.rules[UPDATE] = refuse_one
        jobs = [delete(7, "staging"), delete(8, "staging"), memory(1, 1)]
        assert await drain(*jobs, by=proxied_store) == "empty"
        assert [dead_letter.reason for dead_letter in await dead_letters()] == ["refused"]

    async def test_indexes_are_made_only_if_the_server_refuses_deletes_without_them(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, staging: str
    ) -> None:
        operations = [DeleteMatching(user_id=1)]
        await proxied_store.apply(STAGING, operations, timeout_s=5)
        assert "Points/CreateFieldIndex" not in qdrant_proxy.calls

        async def strict(call: Call) -> Any:
            answer = await call.forward()
            answer.result.config.strict_mode_config.enabled = True
            answer.result.config.strict_mode_config.unindexed_filtering_update = False
            return answer

        qdrant_proxy.rules["Collections/Get"] = strict
        proxied_store.collections.forget(STAGING)
        await proxied_store.apply(STAGING, operations, timeout_s=5)
        assert qdrant_proxy.calls.count("Points/CreateFieldIndex") == len(MEMORY.indexes)

    async def test_a_base_collection_of_another_dimension_is_a_configuration_error(
        self, drain: Drain, dead_letters: Dead, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"), size=2 * DIMENSION)
        insert(engine, shape.base("memory"), size=2 * DIMENSION)
        with pytest.raises(ConfigurationError, match="has dimension 16, but QDRANT_VECTOR_DIMENSION is 8"):
            await store.prepare()
        assert await drain(purge()) == "empty"
        assert engine.points(shape.base("memory")) == set()
        assert await drain(memory(1, 1)) == "outage"
        assert await dead_letters() == []


class TestColliding:
    """Two names of the deployment that lead to one collection."""

    @pytest.mark.parametrize("first", ["memories", "documents"])
    async def test_colliding_base_collections_are_refused_at_the_start(
        self, store: VectorStore, shape: CollectionShape, engine: Contents, first: str
    ) -> None:
        names = [shape.base("memory"), shape.base("document")]
        real, alias = names if first == "memories" else reversed(names)
        engine.create(real)
        engine.alias(alias, real)
        with pytest.raises(ConfigurationError, match=f"{names[0]} and {names[1]} are one collection, {real}"):
            await store.prepare()

    async def test_a_colliding_namespace_of_the_settings_is_refused_at_the_start(
        self, open_worker: Any, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"))
        engine.alias(f"{shape.base('memory')}_feedback", shape.base("memory"))
        async with open_worker(namespaces=("feedback",)) as worker:
            with pytest.raises(ConfigurationError, match=f"{shape.base('memory')}_feedback are one collection"):
                await worker.prepare()

    @pytest.mark.parametrize(
        "job",
        [memory(1, 1, namespace="staging"), delete(7, "staging"), purge(kind="memory", namespace="staging")],
        ids=type,
    )
    async def test_a_job_that_names_a_colliding_namespace_becomes_a_dead_letter(
        self, drain: Drain, store: VectorStore, dead_letters: Dead, shape: CollectionShape, engine: Contents,
        job: WriteJob,
    ) -> None:  # fmt: skip
        await store.prepare()
        insert(engine, shape.base("memory"))
        engine.alias(f"{shape.base('memory')}_staging", shape.base("memory"))
        assert await drain(memory(2, 1), job, memory(2, 2)) == "empty"
        assert engine.points(shape.base("memory")) == {"mem_1_7", "mem_2_1", "mem_2_2"}
        (dead_letter,) = await dead_letters()
        assert dead_letter.reason == "refused"
        assert f"{shape.base('memory')} and {shape.base('memory')}_staging are one collection" in dead_letter.detail

    async def test_a_later_alias_stops_purges_but_not_upserts(
        self, drain: Drain, store: VectorStore, dead_letters: Dead, shape: CollectionShape, engine: Contents
    ) -> None:
        """A purge of memories must not delete documents."""
        await store.prepare()
        await drain(memory(1, 1, namespace="staging"))
        insert(engine, shape.base("document"))
        engine.drop(f"{shape.base('memory')}_staging")
        engine.alias(f"{shape.base('memory')}_staging", shape.base("document"))
        assert await drain(memory(1, 1)) == "empty"
        assert await drain(purge(kind="memory")) == "outage"
        assert engine.points(shape.base("document")) == {"mem_1_7"}
        assert await dead_letters() == []

    async def test_a_namespace_with_the_name_of_the_documents_is_refused(
        self, open_worker: Any, shape: CollectionShape, engine: Contents
    ) -> None:
        """Settings refuse such names, but a store must not rely on that."""
        async with open_worker(kinds=renamed(shape, document=f"{shape.base('memory')}_docs").kinds) as worker:
            await worker.prepare()
            for operation in (DeletePoints(("mem_1_1",)), UpsertPoints((memory(1, 1),))):
                with pytest.raises(CollectionUnfit, match="are one collection"):
                    await worker.apply(CollectionRef("memory", "docs"), [operation], timeout_s=5)


class TestRegistry:
    """The registry of the collections that were made or adopted, and what is restored if it is lost."""

    async def test_made_and_adopted_collections_are_registered(
        self, store: VectorStore, shape: CollectionShape, engine: Contents, registry: CollectionRegistry
    ) -> None:
        engine.create(shape.base("document"))
        engine.create(f"{shape.base('memory')}_staging")
        await store.prepare()
        for ref in (STAGING, FEEDBACK):
            await store.apply(ref, [UpsertPoints((memory(1, 1),))], timeout_s=5)
        expected = {
            "memory": "made",
            "document": "adopted",
            "memory:staging": "adopted",
            "memory:feedback": "made",
        }
        assert await registry.names() == expected
        assert {store.collections.origin(ref) for ref in (MEMORIES, FEEDBACK)} == {"made"}
        assert {store.collections.origin(ref) for ref in (DOCUMENTS, STAGING)} == {"adopted"}
        for ref in (MEMORIES, DOCUMENTS, STAGING, FEEDBACK):
            pin = pin_of(engine.info(store.collections.name(ref)), ref)
            assert pin is not None
            assert (pin.deployment, pin.origin) == (registry.deployment, store.collections.origin(ref))

    async def test_a_collection_is_registered_before_points_are_written(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, registry: CollectionRegistry
    ) -> None:
        seen = []

        async def read_registry(call: Call) -> Any:
            seen.append(dict(await registry.names()))
            return await call.forward()

        qdrant_proxy.rules[UPDATE] = read_registry
        for _ in range(2):
            await proxied_store.apply(FEEDBACK, [UpsertPoints((memory(1, 1),))], timeout_s=5)
        assert seen[0] == {"memory:feedback": "made"}
        assert qdrant_proxy.calls.count("Collections/Get") == 2  # once before it is made, and once after

    async def test_two_workers_register_a_collection_at_the_same_time(
        self, open_worker: Any, registry: CollectionRegistry, drain: Drain, shape: CollectionShape, engine: Contents
    ) -> None:
        async with open_worker() as first, open_worker() as second, open_worker() as third:
            writes = [[UpsertPoints((memory(1, number),))] for number in range(2)]
            await asyncio.gather(
                first.apply(FEEDBACK, writes[0], timeout_s=10), second.apply(FEEDBACK, writes[1], timeout_s=10)
            )
            assert (await registry.names())["memory:feedback"] == "made"
            assert engine.points(f"{shape.base('memory')}_feedback") == {"mem_1_0", "mem_1_1"}
            assert await drain(purge(), by=third) == "empty"
        assert engine.points(f"{shape.base('memory')}_feedback") == set()

    async def test_a_lost_registry_is_restored_by_a_purge(
        self, drain: Drain, store: VectorStore, open_worker: Any, redis: Redis, keys: Keys,
        registry: CollectionRegistry, shape: CollectionShape, engine: Contents,
    ) -> None:  # fmt: skip
        engine.create(f"{shape.base('memory')}_old")
        engine.create(f"{shape.base('memory')}_foreign")
        insert(engine, f"{shape.base('memory')}_foreign")
        await store.prepare()
        await drain(*(memory(1, 1, namespace=namespace) for namespace in (None, "feedback", "old")))
        before = await registry.names()
        await redis.delete(keys.collections)
        async with open_worker() as another:
            assert await drain(purge(), by=another) == "empty"
        assert await registry.names() == before
        for name in (shape.base("memory"), f"{shape.base('memory')}_feedback", f"{shape.base('memory')}_old"):
            assert engine.points(name) == set()
        assert engine.points(f"{shape.base('memory')}_foreign") == {"mem_1_7"}

    async def test_a_lost_registry_is_restored_at_the_start(
        self, drain: Drain, store: VectorStore, open_worker: Any, redis: Redis, keys: Keys,
        registry: CollectionRegistry,
    ) -> None:  # fmt: skip
        await store.prepare()
        await drain(memory(1, 1, namespace="feedback"))
        before = await registry.names()
        await redis.delete(keys.collections)
        async with open_worker() as another:
            await another.prepare()
        assert await registry.names() == before

    async def test_an_alias_is_restored(
        self, drain: Drain, store: VectorStore, redis: Redis, keys: Keys, registry: CollectionRegistry,
        shape: CollectionShape, engine: Contents,
    ) -> None:  # fmt: skip
        real = shape.base("memory").replace("memories", "of-2026")
        engine.create(real)
        engine.alias(f"{shape.base('memory')}_feedback", real)
        await drain(memory(1, 1, namespace="feedback"))
        await redis.delete(keys.collections)
        await store.collections.restore()
        assert await registry.names() == {"memory:feedback": "adopted"}

    async def test_without_metadata_a_worker_restores_the_collections_that_it_knows(
        self, drain: Drain, store: VectorStore, redis: Redis, keys: Keys, registry: CollectionRegistry,
        shape: CollectionShape, engine: Contents,
    ) -> None:  # fmt: skip
        await store.prepare()
        await drain(memory(1, 1, namespace="feedback"))
        for name in (shape.base("memory"), shape.base("document"), f"{shape.base('memory')}_feedback"):
            engine.without_metadata(name)
        before = await registry.names()
        await redis.delete(keys.collections)
        assert await drain(purge()) == "empty"
        assert engine.points(f"{shape.base('memory')}_feedback") == set()
        assert await registry.names() == before

    async def test_a_lost_entry_of_the_registry_is_restored(
        self, drain: Drain, store: VectorStore, redis: Redis, keys: Keys, registry: CollectionRegistry
    ) -> None:
        await store.prepare()
        await drain(memory(1, 1, namespace="feedback"))
        await redis.hdel(keys.collections, "memory:feedback")
        assert await drain(purge()) == "empty"
        assert (await registry.names())["memory:feedback"] == "made"

    async def test_a_collection_of_another_deployment_or_name_is_not_restored(
        self, open_worker: Any, redis: Redis, registry: CollectionRegistry, keys: Keys,
        shape: CollectionShape, engine: Contents,
    ) -> None:  # fmt: skip
        other = CollectionRegistry(redis, Keys(f"{keys.prefix}-other"))
        async with open_worker(registry=other) as worker:
            await worker.collections.ensure(FEEDBACK)
        async with open_worker(kinds=renamed(shape, memory=f"{shape.base('memory')}_staging").kinds) as worker:
            await worker.collections.ensure(MEMORIES)  # of this deployment before its collections were renamed
        await redis.delete(keys.collections)
        async with open_worker() as worker:
            await worker.collections.restore()
            assert await registry.names() == {}
            foreign = [f"{shape.base('memory')}_feedback", f"{shape.base('memory')}_staging"]
            assert await worker.collections.foreign() == foreign

    async def test_a_collection_that_was_made_again_by_others_is_adopted(
        self, store: VectorStore, shape: CollectionShape, engine: Contents, registry: CollectionRegistry
    ) -> None:
        """It may have points with older ids."""
        await store.prepare()
        engine.drop(shape.base("memory"))
        engine.create(shape.base("memory"))
        store.collections.forget(MEMORIES)
        await store.collections.ensure(MEMORIES)
        assert (await registry.names())["memory"] == "adopted"

    async def test_without_metadata_the_registry_knows_who_made_a_collection(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, open_worker: Any, shape: CollectionShape,
        engine: Contents, registry: CollectionRegistry,
    ) -> None:  # fmt: skip
        async def ignores_metadata(call: Call) -> Any:
            call.request.metadata.clear()
            return await call.forward()

        async def is_old(call: Call) -> Any:
            answer = await call.forward()
            answer.version = "1.15.5"
            return answer

        qdrant_proxy.rules["Collections/Create"] = ignores_metadata
        qdrant_proxy.rules["Qdrant/HealthCheck"] = is_old
        engine.create(shape.base("document"))
        await proxied_store.prepare()
        async with open_worker(url=qdrant_proxy.url) as restarted:
            await restarted.prepare()
            assert restarted.collections.origin(MEMORIES) == "made"
        assert await registry.names() == {"memory": "made", "document": "adopted"}
        assert "Collections/Update" not in qdrant_proxy.calls

    async def test_a_collection_that_cannot_be_pinned_is_used(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents,
        registry: CollectionRegistry,
    ) -> None:  # fmt: skip
        engine.create(shape.base("memory"))
        qdrant_proxy.rules["Collections/Update"] = failing(grpc.StatusCode.PERMISSION_DENIED)
        await proxied_store.prepare()
        await proxied_store.apply(MEMORIES, [UpsertPoints((memory(1, 1),))], timeout_s=5)
        assert engine.points(shape.base("memory")) == {"mem_1_1"}
        assert (await registry.names())["memory"] == "adopted"

    async def test_an_unknown_entry_of_the_registry_is_kept(
        self, store: VectorStore, registry: CollectionRegistry
    ) -> None:
        await registry.add("note:of another version", "made")
        await store.prepare()
        assert await store.collections.existing() == [MEMORIES, DOCUMENTS]
        assert (await registry.names())["note:of another version"] == "made"


class TestWorker:
    async def test_a_purge_reaches_exactly_the_collections_of_the_deployment(
        self, settings: MakeSettings, queue: MemoryQueue, shape: CollectionShape, engine: Contents
    ) -> None:
        ours, foreign = f"{shape.base('memory')}_feedback_positive", f"{shape.base('memory')}_staging"
        real = shape.base("memory").replace("memories", "of-2026")
        engine.create(real)
        engine.alias(ours, real)
        engine.create(foreign, size=2 * DIMENSION)
        insert(engine, real)
        insert(engine, foreign, size=2 * DIMENSION)
        async with running(settings()):
            await queue.wait_applied(
                await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0), namespace="mine")
            )
            await queue.wait_applied(await queue.purge(user_id=1))
            assert {info.name for info in await queue.info()} == {
                *(shape.base("memory"), shape.base("document"), ours, f"{shape.base('memory')}_mine"),
            }
        assert engine.points(real) == engine.points(f"{shape.base('memory')}_mine") == set()
        assert engine.points(foreign) == {"mem_1_7"}

    async def test_check_names_collections_of_other_programs(
        self, settings: MakeSettings, redis: Redis, store: VectorStore, shape: CollectionShape,
        engine: Contents,
    ) -> None:  # fmt: skip
        await store.prepare()
        await store.collections.ensure(FEEDBACK)
        await store.apply(STAGING, [DeletePoints(("mem_1_1",))], timeout_s=5)
        engine.create(f"{shape.base('memory')}_foreign", size=2 * DIMENSION)
        engine.create(f"{shape.base('memory')}_staging", size=2 * DIMENSION)
        await store.apply(STAGING, [DeletePoints(("mem_1_1",))], timeout_s=5)
        checks = {check.name: check async for check in run_checks(settings(), redis, store)}
        foreign = checks[f"collection {shape.base('memory')}_foreign"]
        assert foreign.verdict == "ok"
        assert foreign.seen.startswith("not of this deployment: not read, written or purged")
        assert "QDRANT_NAMESPACES" in foreign.seen
        assert checks[f"collection {shape.base('memory')}_feedback"].seen.startswith("0 points")
        unfit = checks[f"collection {shape.base('memory')}_staging"]
        assert (unfit.verdict, unfit.seen) == (
            "warning",
            f"collection {shape.base('memory')}_staging has dimension 16, but QDRANT_VECTOR_DIMENSION is 8",
        )

    async def test_check_fails_if_two_names_lead_to_one_collection(
        self, settings: MakeSettings, redis: Redis, store: VectorStore, shape: CollectionShape,
        engine: Contents,
    ) -> None:  # fmt: skip
        engine.create(shape.base("memory"))
        engine.alias(shape.base("document"), shape.base("memory"))
        checks = {check.name: check async for check in run_checks(settings(), redis, store)}
        assert checks["aliases"].verdict == "failed"
        assert shape.base("document") in checks["aliases"].seen
