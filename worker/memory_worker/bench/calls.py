"""A process that makes the measured calls: those of our client, and those of an app without memory-worker.

    python -m memory_worker.bench.calls SEED USERS STOCK    reads tasks as lines of JSON, and writes their figures
    python -m memory_worker.bench.calls                     is the arq worker of the peer with one job per write

It writes ``ready`` to standard error. Latencies do not include the preparation of arguments. All calls take vectors as
lists of numbers. A direct write ends when Qdrant has applied it (``wait=True``).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker, func
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from memory_worker.bench import options as names
from memory_worker.bench.load import LEAST_SCORE, Load, Query
from memory_worker.bench.loops import Figure, Path, Task, looped
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Get
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.contract.kinds import MEMORY, USER_ID_FIELD
from memory_worker.runtime.wiring import open_client, open_queue, open_store
from memory_worker.settings import Settings, load_settings
from memory_worker.store.store import VectorStore

_APPLIED_TIMEOUT_S = 60.0
_CHECK_EVERY = 5
_TRACED_EVERY = 100
_PAUSE_S = 0.01
_UPLOAD_BATCH = 128  # the fastest of 32 to 512; several processes were slower
_ARQ_JOB, _ARQ_JOBS_AT_ONCE = "upsert", 50  # 50 were faster than arq's default of 10


def qdrant_access(settings: Settings) -> dict[str, Any]:
    """Return the arguments with which qdrant-client connects to ``QDRANT_URL`` over gRPC."""
    parts, key = urlsplit(settings.qdrant_url or ""), settings.qdrant_api_key
    return {
        "host": parts.hostname,
        "grpc_port": parts.port or 6334,
        "prefer_grpc": True,
        "https": parts.scheme in ("https", "grpcs"),
        "api_key": key.get_secret_value() if key else None,
        "check_compatibility": False,  # it would ask over REST
        "timeout": 60,
    }


def arq_queue(settings: Settings) -> str:
    """Return the name of arq's queue, with which its job ids begin, so that their keys are removed with the others."""
    return f"{settings.queue_prefix}:peer"


@dataclass(frozen=True, slots=True)
class _Calls:
    settings: Settings
    load: Load
    queue: MemoryQueue
    store: VectorStore
    client: AsyncQdrantClient
    arq: ArqRedis

    def paths(self) -> dict[str, Path]:
        """Return all paths by name."""
        load, queue = self.load, self.queue
        return {
            names.PUSH: looped(lambda point: queue.upsert(**point), load.arguments),
            names.TRACED_PUSH: looped(self.traced_push, lambda number: (number, load.arguments(number))),
            names.PUSH_MANY: looped(queue.upsert_many, lambda some: [load.arguments(one) for one in some], groups=True),
            names.VISIBLE: looped(self.visible, lambda number: (number, load.arguments(number))),
            names.APPLIED: looped(self.applied, load.arguments),
            names.STEPS: self.steps,
            names.DELETED: looped(self.deleted, load.id),
            names.SEARCH: looped(self.search, load.query),
            names.GET: looped(self.get, lambda number: load.id(load.asked(number))),
            names.UPSERT: looped(self.upsert, load.stored),
            names.QUERY: looped(self.query, load.query),
            names.RETRIEVE: looped(self.retrieve, lambda number: load.primary_id(load.asked(number))),
            names.DIRECT_DELETE: looped(self.delete, load.primary_id),
            names.UPLOAD: self.upload,
            names.ENQUEUE: looped(self.enqueue, lambda number: (number, load.stored(number))),
            names.PAUSE: looped(asyncio.sleep, lambda _: _PAUSE_S),
        }

    async def traced_push(self, numbered: tuple[int, dict[str, Any]]) -> None:
        """Push in a trace of its own. One in a hundred of them is sampled."""
        from opentelemetry import trace  # noqa: PLC0415  # in no other phase, because it makes clients record spans

        number, point = numbered
        flags = trace.TraceFlags(number % _TRACED_EVERY == 0)
        context = trace.SpanContext(number + 1, number + 1, is_remote=False, trace_flags=flags)
        with trace.use_span(trace.NonRecordingSpan(context)):
            await self.queue.upsert(**point)

    async def applied(self, point: dict[str, Any]) -> list[float]:
        """Write, and wait until applied. Return when it was stored and when it was applied."""
        receipt = await self.queue.upsert(**point)
        stored = time.perf_counter()
        await self.queue.wait_applied(receipt, timeout=_APPLIED_TIMEOUT_S)
        return [stored, time.perf_counter()]

    async def visible(self, numbered: tuple[int, dict[str, Any]]) -> float:
        """Write, wait until applied, and return the time. Every fifth time, check that the engine has the point."""
        number, point = numbered
        _, ended = await self.applied(point)
        if number % _CHECK_EVERY == 0:
            job = Get(user_id=point["user_id"], point_ids=[point["point_id"]])
            _check((await self.store.get(job, timeout_s=self.settings.qdrant_timeout_s))[0], 1)
        return ended

    async def steps(self, task: Task) -> Figure:
        """Write one point after the other. The figure has the times at which each began, was stored and was applied."""
        times = []
        for number in range(task.first, task.first + task.count):
            point = self.load.arguments(number)
            await asyncio.sleep(_PAUSE_S)  # the worker ends the drain before
            times.append([time.perf_counter(), *await self.applied(point)])
        return Figure(calls=task.count, sent=task.count, rate=0.0, times=times)

    async def deleted(self, point: dict[str, Any]) -> None:
        await self.queue.wait_applied(await self.queue.delete(**point), timeout=_APPLIED_TIMEOUT_S)

    async def search(self, asked: Query) -> None:
        hits = await self.queue.search(user_id=asked.user_id, vector=asked.vector, min_score=LEAST_SCORE)
        _check(hits, asked.expected)

    async def get(self, point: dict[str, Any]) -> None:
        _check(await self.queue.get(user_id=point["user_id"], point_ids=[point["point_id"]]), 1)

    async def retrieve(self, primary_id: str) -> None:
        _check(await self.client.retrieve(self.settings.qdrant_memories_collection, [primary_id]), 1)

    async def upsert(self, point: dict[str, Any]) -> None:
        collection = self.settings.qdrant_memories_collection
        _check_completed(await self.client.upsert(collection, points=[models.PointStruct(**point)], wait=True))

    async def delete(self, primary_id: str) -> None:
        collection = self.settings.qdrant_memories_collection
        _check_completed(await self.client.delete(collection, points_selector=[primary_id], wait=True))

    async def query(self, asked: Query) -> None:
        fields = {USER_ID_FIELD: asked.user_id, **MEMORY.search_filter}  # as in our search
        conditions = (models.FieldCondition(key=key, match=models.MatchValue(value=fields[key])) for key in fields)
        answer = await self.client.query_points(
            self.settings.qdrant_memories_collection,
            query=asked.vector,
            query_filter=models.Filter(must=[*conditions]),
            limit=MEMORY.default_limit,
            score_threshold=LEAST_SCORE,
            with_payload=True,
        )
        _check(answer.points, asked.expected)

    async def upload(self, task: Task) -> Figure:
        """Store all points with one call of ``upload_points``. They are prepared before the clock starts."""
        numbers = range(task.first, task.first + task.count)
        points = [models.PointStruct(**self.load.stored(number)) for number in numbers]
        took_s = await asyncio.to_thread(self.timed_upload, points)
        return Figure(calls=task.count, sent=task.count, rate=task.count / took_s)

    def timed_upload(self, points: list[models.PointStruct]) -> float:
        client, collection = QdrantClient(**qdrant_access(self.settings)), self.settings.qdrant_memories_collection
        client.count(collection, exact=False)  # connects
        started = time.perf_counter()
        client.upload_points(collection, points, batch_size=_UPLOAD_BATCH, wait=True)
        took_s = time.perf_counter() - started
        client.close()
        return took_s

    async def enqueue(self, numbered: tuple[int, dict[str, Any]]) -> None:
        (number, point), queue = numbered, arq_queue(self.settings)
        await self.arq.enqueue_job(_ARQ_JOB, *point.values(), _job_id=f"{queue}:{number}", _queue_name=queue)


def _check(answer: Sequence[object], expected: int) -> None:
    """Raise `MemoryWorkerError` if an answer has too few items, because a fast wrong answer must not count."""
    if len(answer) < expected:
        raise MemoryWorkerError(f"found {len(answer)} of {expected}")


def _check_completed(answer: models.UpdateResult) -> None:
    if answer.status != models.UpdateStatus.COMPLETED:
        raise RuntimeError(f"Qdrant answered {answer.status}")


async def _make_calls(seed: int, users: int, stock: int) -> None:
    settings = load_settings()
    load = Load(seed=seed, users=users, dimension=settings.qdrant_vector_dimension, stock=stock)
    gc.collect()
    gc.freeze()  # else each collection would scan half a million numbers
    async with open_client(settings) as queue, open_store(settings) as store:
        client, arq = AsyncQdrantClient(**qdrant_access(settings)), ArqRedis(open_queue(settings).connection_pool)
        paths = _Calls(settings, load, queue, store, client, arq).paths()
        sys.stderr.write("ready\n")
        while line := await asyncio.to_thread(sys.stdin.readline):
            task = msgspec.json.decode(line, type=Task)
            sys.stdout.write(msgspec.json.encode(await paths[task.path](task)).decode() + "\n")
            sys.stdout.flush()


async def _work_on_arq_jobs() -> None:
    settings = load_settings()
    client, arq = AsyncQdrantClient(**qdrant_access(settings)), ArqRedis(open_queue(settings).connection_pool)

    async def upsert(_: dict[str, Any], point_id: str, vector: list[float], payload: dict[str, Any]) -> None:
        point = models.PointStruct(id=point_id, vector=vector, payload=payload)
        await client.upsert(settings.qdrant_memories_collection, points=[point], wait=True)

    sys.stderr.write("ready\n")
    functions = [func(cast("Any", upsert), name=_ARQ_JOB)]
    await Worker(functions, queue_name=arq_queue(settings), redis_pool=arq, max_jobs=_ARQ_JOBS_AT_ONCE).async_run()


if __name__ == "__main__":
    uvloop.run(_make_calls(*map(int, sys.argv[1:])) if sys.argv[1:] else _work_on_arq_jobs())
