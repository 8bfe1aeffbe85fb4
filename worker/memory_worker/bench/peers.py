"""What would be used instead of us, on the same data and the same engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis

from memory_worker.bench import names, peer_arq
from memory_worker.bench.drains import drained
from memory_worker.bench.figures import Round
from memory_worker.bench.load import Load
from memory_worker.bench.phases import Phase
from memory_worker.bench.session import Session
from memory_worker.bench.tasks import Task
from memory_worker.wire.connection import close_redis

BESIDE: Mapping[str, tuple[str, ...]] = {"push": ("upsert",), "drain": ("upload", "arq"), "search": ("query",)}
"""Next to which of our own phases each peer is measured: what is compared is measured close together."""

_AT_ONCE = 32


class Peers:
    """The peers by name."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> Mapping[str, Phase]:
        """Return them all."""
        return {"upsert": self.upsert, "upload": self.upload, "arq": self.arq, "query": self.query}

    async def upsert(self, found: Round) -> None:
        """A request to Qdrant for each write."""
        await self._session.write_by_each(self._session.direct, found, names.UPSERT)

    async def query(self, found: Round) -> None:
        """A request to Qdrant for each search."""
        await self._session.read_by_each(self._session.direct, found, names.QUERY)

    async def upload(self, found: Round) -> None:
        """Many writes at once, with the means that qdrant-client has for it."""
        task = Task(path=names.UPLOAD, count=self._session.options.jobs)
        await self._session.write(self._session.direct, found, names.UPLOAD, task)

    async def arq(self, found: Round) -> None:
        """A job for each write, in a queue as arq comes; a backlog first, then a worker."""
        session, jobs = self._session, self._session.options.peer_jobs
        queue = peer_arq.queue_name(session.settings)
        pool = await create_pool(peer_arq.redis_settings(session.settings), default_queue_name=queue)
        try:
            await self._enqueue(pool, queue, jobs)
            async with session.processes.module(session.settings, "memory_worker.bench.peer_arq") as process:
                with session.step(names.ARQ, jobs) as on_progress:
                    found[names.ARQ] = await drained(
                        lambda: _length(pool, queue),
                        jobs,
                        pids={"worker": process.pid, **session.engines},
                        on_progress=on_progress,
                    )
        finally:
            await close_redis(pool)
        session.ledger.stored += jobs

    async def _enqueue(self, pool: ArqRedis, queue: str, jobs: int) -> None:
        first = self._session.ledger.take(jobs)
        terms = self._session.terms
        load = Load(seed=terms.seed, users=terms.users, dimension=terms.dimension, stock=terms.stock)
        numbers = iter(range(first, first + jobs))

        async def enqueue() -> None:
            for number in numbers:
                stored: dict[str, Any] = load.stored(number)
                await pool.enqueue_job("upsert", *stored.values(), _job_id=f"{queue}:{number}")

        with self._session.step("jobs are enqueued", None):
            await asyncio.gather(*(enqueue() for _ in range(_AT_ONCE)))


async def _length(pool: ArqRedis, queue: str) -> int:
    """Return how many jobs are not finished: arq takes a job out of its queue in the end."""
    return int(await pool.zcard(queue))
