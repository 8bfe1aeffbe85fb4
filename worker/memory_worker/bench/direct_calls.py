"""What an app that does without us calls of Qdrant's own client; and our store, without the queue.

Vectors are given as lists of numbers, as to us. A write counts once Qdrant has applied it (``wait=True``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from memory_worker.bench import names
from memory_worker.bench.figures import Figure
from memory_worker.bench.load import Load
from memory_worker.bench.own_calls import LEAST_SCORE, check_found
from memory_worker.bench.tasks import OnCalls, Path, Task, looped
from memory_worker.contract import Search
from memory_worker.contract.kinds import MEMORY, USER_ID_FIELD
from memory_worker.runtime.wiring import open_store
from memory_worker.settings import Settings
from memory_worker.store.store import VectorStore

UPLOAD_BATCH = 128
"""Of 32 to 512, what was fastest here; more than one process was slower."""
_TIMEOUT_S = 60


def qdrant_access(settings: Settings) -> dict[str, Any]:
    """Return the arguments with which qdrant-client gets to ``QDRANT_URL``, over gRPC."""
    parts = urlsplit(settings.qdrant_url or "")
    key = settings.qdrant_api_key
    return {
        "host": parts.hostname,
        "grpc_port": parts.port or 6334,
        "prefer_grpc": True,
        "https": parts.scheme in ("https", "grpcs"),
        "api_key": key.get_secret_value() if key else None,
        "check_compatibility": False,  # it would ask over REST
        "timeout": _TIMEOUT_S,
    }


@asynccontextmanager
async def direct_paths(settings: Settings, load: Load) -> AsyncIterator[dict[str, Path]]:
    """Yield what can be measured straight at the Qdrant of these settings."""
    client = AsyncQdrantClient(**qdrant_access(settings))
    try:
        async with open_store(settings) as store:
            yield _DirectCalls(client, store, load, settings).paths()
    finally:
        await client.close()


class _DirectCalls:
    """Calls of qdrant-client, one request each, as its documentation shows them."""

    def __init__(self, client: AsyncQdrantClient, store: VectorStore, load: Load, settings: Settings) -> None:
        self._client = client
        self._store = store
        self._load = load
        self._settings = settings
        self._collection = settings.qdrant_memories_collection

    def paths(self) -> dict[str, Path]:
        """Return all of them by name."""
        return {
            names.UPSERT: looped(self._upsert, self._load.stored),
            names.QUERY: looped(self._query, self._asked),
            names.STRAIGHT: looped(self._straight, self._job),
            names.UPLOAD: self._upload,
        }

    async def _upsert(self, point: dict[str, Any]) -> None:
        answer = await self._client.upsert(self._collection, points=[models.PointStruct(**point)], wait=True)
        if answer.status != models.UpdateStatus.COMPLETED:
            raise RuntimeError(f"upsert: {answer.status}")

    def _asked(self, number: int) -> tuple[int, list[float], int]:
        asked = self._load.asked(number)
        return self._load.user(asked), self._load.numbers(asked), self._load.findable(asked)

    async def _query(self, asked: tuple[int, list[float], int]) -> None:
        user_id, vector, hits = asked
        answer = await self._client.query_points(
            self._collection,
            query=vector,
            query_filter=_filter(user_id),
            limit=MEMORY.default_limit,
            score_threshold=LEAST_SCORE,
            with_payload=True,
        )
        check_found(len(answer.points), hits)

    def _job(self, number: int) -> tuple[Search, int]:
        asked = self._load.asked(number)
        job = Search(user_id=self._load.user(asked), vector=self._load.vector(asked), min_score=LEAST_SCORE)
        return job, self._load.findable(asked)

    async def _straight(self, asked: tuple[Search, int]) -> None:
        job, expected = asked
        hits, _ = await self._store.search(job, timeout_s=self._settings.qdrant_timeout_s)
        check_found(len(hits), expected)

    async def _upload(self, task: Task, on_calls: OnCalls) -> Figure:
        """Store everything with the client's own means for many points; they are made before the clock starts."""
        numbers = range(task.first, task.first + task.count)
        points = [models.PointStruct(**self._load.stored(number)) for number in numbers]
        took_s = await asyncio.to_thread(self._timed_upload, points)
        on_calls(task.count)
        return Figure(loop="total", calls=task.count, sent=task.count, took_s=took_s, rate=task.count / took_s)

    def _timed_upload(self, points: list[models.PointStruct]) -> float:
        client = QdrantClient(**qdrant_access(self._settings))
        try:
            client.count(self._collection, exact=False)  # connects
            started = time.perf_counter()
            client.upload_points(self._collection, points, batch_size=UPLOAD_BATCH, wait=True)
            return time.perf_counter() - started
        finally:
            client.close()


def _filter(user_id: int) -> models.Filter:
    """Return the filter that our search sends, too."""
    fields = {USER_ID_FIELD: user_id, **MEMORY.search_filter}
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in fields.items()]
    )
