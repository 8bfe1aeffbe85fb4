"""The parts of the worker, on the real engines, with keys and collections of each test's own."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.runtime.process import WorkerProcess
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.store.values import payload_of, put_payload
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS
from tests.integration.proxies import QdrantProxy, RedisProxy

SIGNAL_TIMEOUT_S = 20.0
API_KEY = os.environ.get("TEST_QDRANT_API_KEY")


@asynccontextmanager
async def connected(url: str, *, timeout_s: float = 5) -> AsyncIterator[Redis]:
    """Connections to Redis as a worker has them."""
    opened = open_redis(url, timeout_s=timeout_s)
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
    """The keys of this test's own queue."""
    return Keys(redis_prefix)


@pytest.fixture
async def redis_proxy(redis_url: str) -> AsyncIterator[RedisProxy]:
    """A proxy in front of Redis."""
    async with RedisProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def watched(redis_proxy: RedisProxy) -> AsyncIterator[Redis]:
    """Connections to Redis through the proxy; the first of them is open."""
    async with connected(redis_proxy.url) as opened:
        await opened.ping()
        redis_proxy.words()
        yield opened


Everything = Callable[[], Awaitable[dict[bytes, bytes]]]


@pytest.fixture
def everything(redis: Redis, keys: Keys) -> Everything:
    """Return all that Redis holds of this test's queue, to show that something changed nothing.

    Signs of living processes are left out: they come and expire by themselves.
    """

    async def dump() -> dict[bytes, bytes]:
        found = [key async for key in redis.scan_iter(match=f"*{keys.prefix}*", count=1_000)]
        living = keys.process_prefix.encode()
        return {key: await redis.dump(key) for key in sorted(found) if not key.startswith(living)}

    return dump


@pytest.fixture
def shape(qdrant_channel: grpc.Channel) -> Iterator[CollectionShape]:
    """Collections of this test's own; those that it made are deleted afterwards, namespaces too."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield CollectionShape(memories=f"{prefix}-memories", documents=f"{prefix}-documents", dimension=DIMENSION)
    stub = q.CollectionsStub(qdrant_channel)
    for found in stub.List(q.ListCollectionsRequest()).collections:
        if found.name.startswith(prefix):  # and its aliases with it
            stub.Delete(q.DeleteCollection(collection_name=found.name))


@pytest.fixture
def registry(redis: Redis, keys: Keys) -> CollectionRegistry:
    """The registry of this test's own collections."""
    return CollectionRegistry(redis, keys)


@pytest.fixture
async def store(qdrant_url: str, shape: CollectionShape, registry: CollectionRegistry) -> AsyncIterator[VectorStore]:
    """The store, straight to the engine."""
    async with VectorStore(qdrant_url, shape, registry=registry, api_key=API_KEY) as opened:
        yield opened


@pytest.fixture
async def qdrant_proxy(qdrant_url: str) -> AsyncIterator[QdrantProxy]:
    """A proxy in front of Qdrant, where faults are injected."""
    async with QdrantProxy(qdrant_url) as proxy:
        yield proxy


@pytest.fixture
async def proxied_store(
    qdrant_proxy: QdrantProxy, shape: CollectionShape, registry: CollectionRegistry
) -> AsyncIterator[VectorStore]:
    """The store, through the proxy."""
    async with VectorStore(qdrant_proxy.url, shape, registry=registry, api_key=API_KEY, timeout_s=5) as opened:
        yield opened


class Contents:
    """What the engine holds, read and written behind the worker's back."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._points = q.PointsStub(channel)
        self._collections = q.CollectionsStub(channel)

    def payloads(self, collection: str) -> dict[str, dict[str, Any]]:
        """Return the payloads in a collection by logical id, which must be there once each."""
        found = [payload_of(point.payload) for point in self._scroll(collection)]
        by_id = {payload["_point_id"]: payload for payload in found}
        assert len(by_id) == len(found), f"a logical id stands twice among {found}"
        return by_id

    def points(self, collection: str) -> set[str]:
        """Return the logical ids in a collection; none where there is no such collection."""
        return set(self.payloads(collection)) if collection in self.names() else set()

    def primary_ids(self, collection: str) -> set[int | str]:
        return {point.id.uuid or point.id.num for point in self._scroll(collection)}

    def vector(self, collection: str, primary_id: str) -> list[float]:
        request = q.GetPoints(
            collection_name=collection,
            ids=[q.PointId(uuid=primary_id)],
            with_vectors=q.WithVectorsSelector(enable=True),
        )
        output = self._points.Get(request).result[0].vectors.vector
        return list(output.dense.data if output.WhichOneof("vector") == "dense" else output.data)

    def insert(self, collection: str, primary_id: int | str, vector: list[float], **payload: Any) -> None:
        """Write a point as the main app's own client would."""
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

    def alias(self, alias: str, collection: str) -> None:
        """Give a collection another name."""
        create = q.CreateAlias(collection_name=collection, alias_name=alias)
        self._collections.UpdateAliases(q.ChangeAliases(actions=[q.AliasOperations(create_alias=create)]))

    def without_metadata(self, collection: str) -> None:
        """Remove the metadata of a collection, as those have none that were made by others or long ago."""
        request = q.UpdateCollection(collection_name=collection)
        for key in self.info(collection).config.metadata:
            request.metadata[key].null_value = q.NullValue.NULL_VALUE
        self._collections.Update(request)

    def drop(self, collection: str) -> None:
        self._collections.Delete(q.DeleteCollection(collection_name=collection))

    def _scroll(self, collection: str) -> list[q.RetrievedPoint]:
        request = q.ScrollPoints(
            collection_name=collection, limit=10_000, with_payload=q.WithPayloadSelector(enable=True)
        )
        return list(self._points.Scroll(request).result)


@pytest.fixture
def engine(qdrant_channel: grpc.Channel) -> Contents:
    """What the engine holds."""
    return Contents(qdrant_channel)


@pytest.fixture
def settings(redis_url: str, qdrant_url: str, redis_prefix: str, shape: CollectionShape) -> Callable[..., Settings]:
    """Make settings for this test's own queue and collections."""

    def make(**overrides: Any) -> Settings:
        values: dict[str, Any] = {
            "redis_url": SecretStr(redis_url),
            "qdrant_url": qdrant_url,
            "qdrant_api_key": SecretStr(API_KEY) if API_KEY else None,
            "qdrant_memories_collection": shape.memories,
            "qdrant_documents_collection": shape.documents,
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


@asynccontextmanager
async def running(settings: Settings, role: Any = "all") -> AsyncIterator[WorkerProcess]:
    """Run the worker in this event loop; it must come up, and stop when told to."""
    app, ready = WorkerProcess(settings, role), asyncio.Event()
    task = asyncio.create_task(app.run(on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], timeout=SIGNAL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    assert ready.is_set()
    try:
        yield app
    finally:
        app.stop()
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await task


@pytest.fixture
async def app(settings: Callable[..., Settings]) -> AsyncIterator[WorkerProcess]:
    """A worker of both roles, until the test ends."""
    async with running(settings()) as started:
        yield started


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[MemoryQueue]:
    """The queue as the main app has it."""
    async with MemoryQueue.connect(redis_url, prefix=redis_prefix) as opened:
        yield opened


class Events(logging.Handler):
    """The worker's log, as signals: what it logs can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._arrived = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), getattr(record, "fields", {})))
        self._arrived.set()

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of each ``event`` so far."""
        return [fields for name, fields in self.seen if name == event]

    async def wait_for(self, event: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Return once ``event`` was logged so many times."""
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while len(self.of(event)) < times:
                self._arrived.clear()
                await self._arrived.wait()
        return self.of(event)


@pytest.fixture
async def events() -> AsyncIterator[Events]:
    """The worker's log."""
    logger, handler = logging.getLogger("memory_worker"), Events()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
