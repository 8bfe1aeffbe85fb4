"""Worker processes and the content of Qdrant, for the acceptance lane."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.store.values import payload_of
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from tests.acceptance.oracle import NAMESPACES, Payload, Place, number_of
from tests.acceptance.processes import COMMAND, WorkerProcess

DIMENSION = 16
VECTOR = [1.0, *[0.0] * (DIMENSION - 1)]
PARTITIONS = 16
MEMORY_WORKER = str(Path(sys.executable).with_name("memory-worker"))

APP = {
    "worker.py": "raise AssertionError(__file__)\n",
    "redis.py": "raise AssertionError(__file__)\n",
    "logging.py": "raise AssertionError(__file__)\n",
    "queue.py": "raise AssertionError(__file__)\n",
    "grpc/__init__.py": "raise AssertionError(__file__)\n",
    "memory_worker/__init__.py": "raise AssertionError(__file__)\n",
    ".env": "PORT=nonsense\nREDIS_URL=redis://nowhere.invalid\n",
}
"""Files of an app, some with the names of modules that a worker or a producer imports."""


@pytest.fixture
def environment(
    redis_url: str, qdrant_url: str, redis_prefix: str, qdrant_channel: grpc.Channel
) -> Iterator[dict[str, str]]:
    """The environment of a worker with keys and collections of this test."""
    name = uuid.uuid4().hex[:12]
    names = {
        "QDRANT_MEMORIES_COLLECTION": f"test_{name}_memories",
        "QDRANT_DOCUMENTS_COLLECTION": f"test_{name}_documents",
    }
    yield {
        **names,
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": redis_prefix,
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        "QUEUE_PARTITIONS": str(PARTITIONS),
    }
    drop_collections(qdrant_channel, names)


@pytest.fixture
async def queue(environment: dict[str, str]) -> AsyncIterator[MemoryQueue]:
    """The client of the main app."""
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as opened:
        yield opened


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Connections to Redis as a worker has them."""
    opened = open_redis(redis_url, timeout_s=5)
    yield opened
    await close_redis(opened)


@pytest.fixture
def keys(redis_prefix: str) -> Keys:
    """The keys of the test's queue."""
    return Keys(redis_prefix)


async def wait_applied(queue: MemoryQueue, receipts: Iterable[Receipt], *, timeout_s: float = 90) -> None:
    """Wait until all of these jobs are applied."""
    await asyncio.gather(*(queue.wait_applied(receipt, timeout=timeout_s) for receipt in receipts))


def latest(receipts: Iterable[Receipt]) -> list[Receipt]:
    """Return the receipt of the last entry of each partition."""
    found: dict[int, Receipt] = {}
    for receipt in receipts:
        found[receipt.partition] = max(receipt, found.get(receipt.partition, receipt), key=_order)
    return list(found.values())


def _order(receipt: Receipt) -> tuple[int, ...]:
    return tuple(int(part) for part in receipt.entry_id.split("-"))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The working directory of an app with these files."""
    return write_app(tmp_path / "app")


def write_app(directory: Path) -> Path:
    """Write the files of an app into a new directory, and return that."""
    for name, text in APP.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(environment: dict[str, str]) -> Iterator[StartWorker]:
    """Start worker processes, which end with the test; return each once it has started."""
    started: list[WorkerProcess] = []

    def start(role: str = "all", *, cwd: Path | None = None, **more: str) -> WorkerProcess:
        command = [MEMORY_WORKER] if cwd else COMMAND
        worker = WorkerProcess(role, {**environment, **more}, command=command, cwd=cwd)
        started.append(worker)
        worker.wait_for("started")
        return worker

    yield start
    for worker in started:
        worker.close()


Contents = Callable[[], dict[Place, Payload]]
Stored = Callable[[], dict[Place, int]]


@pytest.fixture
def contents(environment: dict[str, str], qdrant_channel: grpc.Channel) -> Contents:
    """Return the content of Qdrant in the form of the oracle."""
    return lambda: read_points(qdrant_channel, environment)


@pytest.fixture
def stored(contents: Contents) -> Stored:
    """Return the points in Qdrant, each with the number of the job that wrote it."""
    return lambda: {place: number_of(payload) for place, payload in contents().items()}


def read_points(channel: grpc.Channel, names: Mapping[str, str]) -> dict[Place, Payload]:
    """Return the payloads of all points of these collections."""
    points = q.PointsStub(channel)
    found: dict[Place, Payload] = {}
    for namespace in NAMESPACES:
        for payload in _payloads(points, _collection(names["QDRANT_MEMORIES_COLLECTION"], namespace)):
            found["memory", namespace, payload["_point_id"]] = payload
    for payload in _payloads(points, names["QDRANT_DOCUMENTS_COLLECTION"]):
        found["document", None, payload["_point_id"]] = payload
    return found


def drop_collections(channel: grpc.Channel, names: Mapping[str, str]) -> None:
    """Delete these collections with all of their namespaces."""
    collections = q.CollectionsStub(channel)
    memories = names["QDRANT_MEMORIES_COLLECTION"]
    for name in (names["QDRANT_DOCUMENTS_COLLECTION"], *(_collection(memories, namespace) for namespace in NAMESPACES)):
        collections.Delete(q.DeleteCollection(collection_name=name))


def _collection(base: str, namespace: str | None) -> str:
    return base if namespace is None else f"{base}_{namespace}"


def _payloads(points: q.PointsStub, collection: str) -> Iterator[Payload]:
    """Yield the payloads of a collection, except that of a probe whose worker or engine died."""
    request = q.ScrollPoints(collection_name=collection, limit=1000, with_payload=q.WithPayloadSelector(enable=True))
    while True:
        try:
            answer = points.Scroll(request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return  # nothing was written to this namespace
            raise
        for found in answer.result:
            payload = payload_of(found.payload)
            if payload["_point_id"] != "probe":
                yield payload
        if not answer.HasField("next_page_offset"):
            return
        request.offset.CopyFrom(answer.next_page_offset)
