"""The answers to read jobs, by their types."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from memory_worker.contract import (
    Count,
    CountAll,
    Facet,
    FacetAll,
    Files,
    Get,
    Health,
    HealthReport,
    Info,
    List,
    ListAll,
    QueueReport,
    ReadJob,
    Reply,
    Search,
    SearchMany,
    SearchResult,
    Stats,
)
from memory_worker.reads.failures import read_error
from memory_worker.store.reader import Read
from memory_worker.store.store import VectorStore

_SHARE_OF_TIME = 0.95


class Answers:
    """Answers read jobs from one store.

    ``max_bytes`` is the size of the largest answer. ``queue_report`` returns the state of the queue.
    """

    def __init__(
        self, store: VectorStore, *, max_bytes: int, queue_report: Callable[[], Awaitable[QueueReport | None]]
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._queue_report = queue_report

    async def answer(self, job: ReadJob, read: Read) -> Reply:
        """Return the reply to a job that was checked. Failures are raised."""
        return await READ_JOBS[type(job)](self, job, read)

    async def search(self, job: Search, read: Read) -> Reply:
        """Return hits."""
        return Reply(ok=True, hits=await self._store.searches.search(job, read))

    async def search_many(self, job: SearchMany, read: Read) -> Reply:
        """Return the hits or the error of each search. A slow one ends early, so that the others are returned."""
        read.hurry(_SHARE_OF_TIME)

        async def one(search: Search, read: Read) -> SearchResult:
            try:
                return SearchResult(hits=await self._store.searches.search(search, read))
            except Exception as error:  # noqa: BLE001  # the other searches are answered
                found = read_error(error, "search_many", timeout_ms=job.timeout_ms, max_bytes=self._max_bytes)
                return SearchResult(error=found)

        return Reply(ok=True, results=await read.together(partial(one, search) for search in job.searches))

    async def get(self, job: Get, read: Read) -> Reply:
        """Return points."""
        return Reply(ok=True, points=await self._store.points.get(job, read))

    async def list(self, job: List | ListAll, read: Read) -> Reply:
        """Return a page of points."""
        page = await self._store.listing.page(job, read)
        return Reply(ok=True, points=page.points, cursor=page.cursor)

    async def count(self, job: Count | CountAll, read: Read) -> Reply:
        """Return a number of points."""
        return Reply(ok=True, count=await self._store.facets.count(job, read))

    async def facet(self, job: Facet | FacetAll, read: Read) -> Reply:
        """Return the values of a field."""
        return Reply(ok=True, facet=await self._store.facets.facet(job, read))

    async def files(self, job: Files, read: Read) -> Reply:
        """Return files."""
        files, truncated = await self._store.facets.files(job, read)
        return Reply(ok=True, files=files, truncated=truncated)

    async def stats(self, job: Stats, read: Read) -> Reply:
        """Return the stats of a user."""
        return Reply(ok=True, stats=await self._store.facets.stats(job, read))

    async def info(self, _job: Info, _read: Read) -> Reply:
        """Return the state of the collections."""
        return Reply(ok=True, collections=await self._store.info())

    async def health(self, _job: Health, read: Read) -> Reply:
        """Return the version of Qdrant, the time of its answer, and the state of the queue."""
        started = time.monotonic()
        version = await self._store.version()
        read.engine_s = time.monotonic() - started
        report = HealthReport(version=version, engine_ms=read.engine_ms, queue=await self._queue_report())
        return Reply(ok=True, health=report)


_Answer: TypeAlias = Callable[[Answers, Any, Read], Awaitable[Reply]]

USER_READS: Final[Mapping[type[ReadJob], _Answer]] = MappingProxyType(
    {
        Search: Answers.search,
        SearchMany: Answers.search_many,
        Get: Answers.get,
        List: Answers.list,
        Count: Answers.count,
        Facet: Answers.facet,
        Files: Answers.files,
        Stats: Answers.stats,
        Info: Answers.info,
        Health: Answers.health,
    }
)
ADMIN_READS: Final[Mapping[type[ReadJob], _Answer]] = MappingProxyType(
    {ListAll: Answers.list, CountAll: Answers.count, FacetAll: Answers.facet}
)
"""The reads of all users, which have a queue of their own."""
READ_JOBS: Final[Mapping[type[ReadJob], _Answer]] = MappingProxyType({**USER_READS, **ADMIN_READS})
