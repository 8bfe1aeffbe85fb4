"""The parts of the worker on real servers. Each test has its own keys and collections."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, Upsert, WriteJob, encode_job
from memory_worker.contract.kinds import KINDS, with_collections
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.queue.dead_letters import DeadLetter
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.runtime.process import WorkerProcess
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.store.values import payload_of, put_payload
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.dead_letters import all_dead_letters
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS
from tests.integration.proxies import QdrantProxy, RedisProxy
from tests.servers import RedisServer

SIGNAL_TIMEOUT_S = 20.0
API_KEY = os.environ.get("TEST_QDRANT_API_KEY")


@asynccontextmanager
async def connected(url: str, *, timeout_s: float = 5, prefix: str = "mw") -> AsyncIterator[Redis]:
    """Open connections to Redis as a worker does."""
    opened = open_redis(url, timeout_s=timeout_s, prefix=prefix)
    try:
        yield opened
    finally:
        await close_redis(opened)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Connections to Redis as a worker has them."""
    async with connected(redis_url) as opened:
        yield opened


@pytest.fixture
def keys(redis_prefix: str) -> Keys:
    """The keys of the test's queue."""
    return Keys(redis_prefix)


@pytest.fixture
def own_redis(quick_directory: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone, which may be killed, frozen or flushed."""
    server = RedisServer(quick_directory / f"redis-{uuid.uuid4().hex}")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def replica(own_redis: RedisServer, quick_directory: Path) -> AsyncIterator[RedisServer]:
    """A replica of `own_redis` that has all of its data."""
    server = RedisServer(quick_directory / f"replica-{uuid.uuid4().hex}")
    server.start()
    async with connected(server.url) as copy, connected(own_redis.url) as primary:
        await primary.config_set("repl-diskless-sync-delay", 0)
        await copy.execute_command("REPLICAOF", "127.0.0.1", own_redis.port)
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            confirmed = 0
            while not confirmed:  # the first full copy may take longer
                await primary.set("tick", "1")  # without a write before it, WAIT counts a replica that has no copy yet
                confirmed = await primary.execute_command("WAIT", 1, 500)
    yield server
    server.kill()


@pytest.fixture
async def redis_proxy(redis_url: str) -> AsyncIterator[RedisProxy]:
    """A proxy in front of Redis."""
    async with RedisProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def watched(redis_proxy: RedisProxy) -> AsyncIterator[Redis]:
    """Connections to Redis through the proxy; the first one is open."""
    async with connected(redis_proxy.url) as opened:
        await opened.ping()
        redis_proxy.words()
        yield opened


Everything = Callable[[], Awaitable[dict[bytes, bytes]]]


@pytest.fixture
def everything(redis: Redis, keys: Keys) -> Everything:
    """Return the content of all keys of the test's queue, to show that they did not change.

    The signs of life of processes are left out, because they expire by themselves.
    """

    async def dump() -> dict[bytes, bytes]:
        found = [key async for key in redis.scan_iter(match=f"*{keys.prefix}*", count=1_000)]
        living = keys.process_prefix.encode()
        return {key: await redis.dump(key) for key in sorted(found) if not key.startswith(living)}

    return dump


@pytest.fixture
def shape(qdrant_channel: grpc.Channel) -> Iterator[CollectionShape]:
    """The collections of this test; those that it made are deleted afterwards, with their namespaces."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    kinds = with_collections(KINDS, {"memory": f"{prefix}-memories", "document": f"{prefix}-documents"})
    yield CollectionShape(kinds=kinds, dimension=DIMENSION)
    stub = q.CollectionsStub(qdrant_channel)
    for found in stub.List(q.ListCollectionsRequest()).collections:
        if found.name.startswith(prefix):  # which deletes its aliases, too
            stub.Delete(q.DeleteCollection(collection_name=found.name))


@pytest.fixture
def registry(redis: Redis, keys: Keys) -> CollectionRegistry:
    """The registry of the test's collections."""
    return CollectionRegistry(redis, keys)


@pytest.fixture
async def store(qdrant_url: str, shape: CollectionShape, registry: CollectionRegistry) -> AsyncIterator[VectorStore]:
    """A store that is connected to Qdrant directly."""
    async with VectorStore(qdrant_url, shape, registry=registry, api_key=API_KEY) as opened:
        yield opened


@pytest.fixture
async def qdrant_proxy(qdrant_url: str) -> AsyncIterator[QdrantProxy]:
    """A proxy in front of Qdrant, which injects faults."""
    async with QdrantProxy(qdrant_url) as proxy:
        yield proxy


@pytest.fixture
async def proxied_store(
    qdrant_proxy: QdrantProxy, shape: CollectionShape, registry: CollectionRegistry
) -> AsyncIterator[VectorStore]:
    """A store that is connected to Qdrant through the proxy."""
    async with VectorStore(qdrant_proxy.url, shape, registry=registry, api_key=API_KEY, timeout_s=5) as opened:
        yield opened


Stored = Callable[..., Awaitable[None]]


@pytest.fixture
def stored(store: VectorStore) -> Stored:
    """Store points in Qdrant without the queue."""

    async def do(*points: Upsert) -> None:
        for ref in {CollectionRef(point.kind, point.namespace) for point in points}:
            chosen = tuple(p for p in points if CollectionRef(p.kind, p.namespace) == ref)
            await store.apply(ref, [UpsertPoints(chosen)], timeout_s=30)

    return do


MakeDrainer = Callable[..., Drainer]


@pytest.fixture
def drainer(redis: Redis, keys: Keys, proxied_store: VectorStore) -> MakeDrainer:
    """Make a drainer of a queue with one partition. It writes through the proxy and waits for nothing to settle."""

    def make(*, through: Redis | None = None, stopping: Callable[[], bool] = lambda: False, **options: Any) -> Drainer:
        chosen = DrainOptions(
            **{"partitions": 1, "limits": LIMITS, "slice_s": 10, "overflow_slice_s": 10, "settle_s": 0, **options}
        )
        return Drainer(through or redis, keys, proxied_store, chosen, stopping=stopping)

    return make


Push = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def pushed(redis: Redis, keys: Keys) -> Push:
    """Push jobs or raw bodies to a partition; return the ids of their entries."""

    async def do(
        *jobs: WriteJob | bytes, partition: int = 0, partitions: int = 1, version: int = CONTRACT_VERSION
    ) -> list[str]:
        encoded = [(partition, job if isinstance(job, bytes) else encode_job(job)) for job in jobs]
        return [receipt.entry_id for receipt in await push(redis, keys, partitions, encoded, version=version)]

    return do


Dead = Callable[[], Awaitable[list[DeadLetter]]]


@pytest.fixture
def dead_letters(redis: Redis, keys: Keys) -> Dead:
    """Return the dead letters of all partitions."""

    async def collect() -> list[DeadLetter]:
        return await all_dead_letters(redis, keys, PARTITIONS)

    return collect


class Contents:
    """The content of Qdrant, read and written without the worker."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._points = q.PointsStub(channel)
        self._collections = q.CollectionsStub(channel)

    def payloads(self, collection: str) -> dict[str, dict[str, Any]]:
        """Return the payloads in a collection by their logical ids, each of which must be there once."""
        found = [payload_of(point.payload) for point in self.whole(collection)]
        by_id = {payload["_point_id"]: payload for payload in found}
        assert len(by_id) == len(found), f"a logical id occurs twice in {found}"
        return by_id

    def points(self, collection: str) -> set[str]:
        """Return the logical ids in a collection, which need not exist."""
        return set(self.payloads(collection)) if collection in self.names() else set()

    def primary_ids(self, collection: str) -> set[int | str]:
        return {point.id.uuid or point.id.num for point in self.whole(collection)}

    def vector(self, collection: str, primary_id: str) -> list[float]:
        request = q.GetPoints(
            collection_name=collection,
            ids=[q.PointId(uuid=primary_id)],
            with_vectors=q.WithVectorsSelector(enable=True),
        )
        output = self._points.Get(request).result[0].vectors.vector
        return list(output.dense.data if output.WhichOneof("vector") == "dense" else output.data)

    def insert(self, collection: str, primary_id: int | str, vector: list[float], **payload: Any) -> None:
        """Write a point as the client of the main app does."""
        point = q.PointStruct(
            id=q.PointId(num=primary_id) if isinstance(primary_id, int) else q.PointId(uuid=primary_id)
        )
        point.vectors.vector.dense.data.extend(vector)
        put_payload(point.payload, payload)
        self._points.Upsert(q.UpsertPoints(collection_name=collection, wait=True, points=[point]))

    def info(self, collection: str) -> q.CollectionInfo:
        return self._collections.Get(q.GetCollectionInfoRequest(collection_name=collection)).result

    def names(self) -> set[str]:
        return {found.name for found in self._collections.List(q.ListCollectionsRequest()).collections}

    def create(self, collection: str, *, size: int = DIMENSION, distance: Any = q.Distance.Cosine) -> None:
        params = q.VectorParams(size=size, distance=distance)
        request = q.CreateCollection(collection_name=collection, vectors_config=q.VectorsConfig(params=params))
        self._collections.Create(request)

    def index(self, collection: str, field: str, field_type: Any) -> None:
        request = q.CreateFieldIndexCollection(
            collection_name=collection, wait=True, field_name=field, field_type=field_type
        )
        self._points.CreateFieldIndex(request)

    def alias(self, alias: str, collection: str) -> None:
        """Give a collection another name."""
        create = q.CreateAlias(collection_name=collection, alias_name=alias)
        self._collections.UpdateAliases(q.ChangeAliases(actions=[q.AliasOperations(create_alias=create)]))

    def without_metadata(self, collection: str) -> None:
        """Remove the metadata of a collection. Collections of other programs or older versions have none."""
        request = q.UpdateCollection(collection_name=collection)
        for key in self.info(collection).config.metadata:
            request.metadata[key].null_value = q.NullValue.NULL_VALUE
        self._collections.Update(request)

    def drop(self, collection: str) -> None:
        self._collections.Delete(q.DeleteCollection(collection_name=collection))

    def whole(self, collection: str) -> list[q.RetrievedPoint]:
        """Return all points with their payloads and vectors."""
        request = q.ScrollPoints(
            collection_name=collection,
            limit=10_000,
            with_payload=q.WithPayloadSelector(enable=True),
            with_vectors=q.WithVectorsSelector(enable=True),
        )
        return list(self._points.Scroll(request).result)


@pytest.fixture
def engine(qdrant_channel: grpc.Channel) -> Contents:
    """The content of Qdrant."""
    return Contents(qdrant_channel)


MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(redis_url: str, qdrant_url: str, redis_prefix: str, shape: CollectionShape) -> MakeSettings:
    """Make settings for the test's queue and collections."""

    def make(**overrides: Any) -> Settings:
        values: dict[str, Any] = {
            "redis_url": SecretStr(redis_url),
            "qdrant_url": qdrant_url,
            "qdrant_api_key": SecretStr(API_KEY) if API_KEY else None,
            "qdrant_memories_collection": shape.base("memory"),
            "qdrant_documents_collection": shape.base("document"),
            "qdrant_vector_dimension": DIMENSION,
            "queue_prefix": redis_prefix,
            "queue_partitions": PARTITIONS,
            "job_max_bytes": LIMITS.max_job_bytes,
            "retry_base_s": 0.05,
            "retry_max_s": 0.5,
            "worker_grace_s": 5,
            "port": 0,
            "bind_host": "127.0.0.1",
            **overrides,
        }
        return Settings(**values)

    return make


async def started(settings: Settings, role: Any = "all") -> tuple[WorkerProcess, asyncio.Task[None]]:
    """Start a worker in this event loop; return it and its task once it is ready."""
    app, ready = WorkerProcess(settings, role), asyncio.Event()
    task = asyncio.create_task(app.run(on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], timeout=SIGNAL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    assert ready.is_set()
    return app, task


@asynccontextmanager
async def running(settings: Settings, role: Any = "all") -> AsyncIterator[WorkerProcess]:
    """Run a worker in this event loop for the length of the block; it must stop in time."""
    app, task = await started(settings, role)
    try:
        yield app
    finally:
        app.stop()
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await task


@pytest.fixture
async def app(settings: MakeSettings) -> AsyncIterator[WorkerProcess]:
    """A worker with both roles, which runs until the test ends."""
    async with running(settings()) as worker:
        yield worker


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[MemoryQueue]:
    """The client of the main app."""
    async with MemoryQueue.connect(redis_url, prefix=redis_prefix) as opened:
        yield opened


class Events(logging.Handler):
    """The log of the worker. A test can wait for an event in it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._arrived = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), getattr(record, "fields", {})))
        self._arrived.set()

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of every ``event`` so far."""
        return [fields for name, fields in self.seen if name == event]

    async def wait_for(self, event: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Wait until ``event`` was logged so many times; return the fields of each."""
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while len(self.of(event)) < times:
                self._arrived.clear()
                await self._arrived.wait()
        return self.of(event)


@pytest.fixture
async def events() -> AsyncIterator[Events]:
    """The log of the worker."""
    logger, handler = logging.getLogger("memory_worker"), Events()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
