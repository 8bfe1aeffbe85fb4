"""The phases of the benchmark: each measures one path by itself, on the same data and the same engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
from arq import create_pool
from rich.progress import Progress

from worker.bench import peer_arq
from worker.bench.load import Load
from worker.bench.processes import peer_process, worker_process
from worker.bench.timing import Latency, closed_loop, drained_rate
from worker.client import MemoryQueue
from worker.contract import Search, Upsert
from worker.kinds import KINDS, primary_id
from worker.queue.keys import Keys
from worker.queue.meta import publish_meta
from worker.queue.state import partition_states
from worker.settings import Settings
from worker.store.operations import CollectionRef
from worker.vectors import unpack_vector
from worker.wiring import open_client, open_queue, open_store, queue_meta

_DRAIN_TIMEOUT_S = 600.0
_APPLIED_TIMEOUT_S = 60.0
_SEARCH_SCORE = -1.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: ``jobs`` to drain, ``peer_jobs`` for slower peers, ``calls`` for each latency."""

    jobs: int = 20_000
    peer_jobs: int = 3_000
    calls: int = 300
    users: int = 1_000
    rounds: int = 3
    callers: int = 32
    seed: int = 1
    peers: bool = False


class Round(msgspec.Struct, kw_only=True):
    """What one round measured; rates in writes a second."""

    push_one: Latency
    push_many_callers: Latency
    push_bulk_rate: float
    drain_rate: float
    visible: Latency
    search: Latency
    search_direct: Latency
    arq_rate: float | None = None


class Bench:
    """Runs the phases against the servers of the settings; nobody else may use their queue meanwhile."""

    def __init__(self, settings: Settings, options: Options, progress: Progress) -> None:
        self._settings = settings
        self._options = options
        self._progress = progress
        self._load = Load(seed=options.seed, users=options.users, dimension=settings.qdrant_vector_dimension)
        self._next_write = 0

    async def run(self) -> list[Round]:
        """Return the rounds, each of all phases; peers come first in every other round."""
        async with self._collections():
            return [await self._round(number) for number in range(self._options.rounds)]

    async def _round(self, number: int) -> Round:
        arq_rate = None
        if self._options.peers and number % 2:
            arq_rate = await self._arq_per_write()
        push_one, push_many_callers, push_bulk_rate = await self._push()
        drain_rate = await self._drain()
        visible = await self._visible()
        search, search_direct = await self._search()
        if self._options.peers and not number % 2:
            arq_rate = await self._arq_per_write()
        return Round(
            push_one=push_one,
            push_many_callers=push_many_callers,
            push_bulk_rate=push_bulk_rate,
            drain_rate=drain_rate,
            visible=visible,
            search=search,
            search_direct=search_direct,
            arq_rate=arq_rate,
        )

    async def _push(self) -> tuple[Latency, Latency, float]:
        """Push with no worker running, until a backlog of ``jobs`` waits."""
        options = self._options
        singles = min(options.calls, options.jobs // 4)
        many = min(10 * singles, options.jobs // 4)
        async with self._queue() as queue:
            with self._task("push, one caller", singles):
                one = await closed_loop(lambda _: self._push_next(queue), count=singles)
            with self._task(f"push, {options.callers} callers", many):
                callers = await closed_loop(lambda _: self._push_next(queue), count=many, callers=options.callers)
            rest = list(self._take(options.jobs - singles - many))
            with self._task("push, many at a time", len(rest)):
                bulk = await closed_loop(lambda _: queue.upsert_many(rest), count=1)
        return one, callers, len(rest) * bulk.rate

    async def _drain(self) -> float:
        """Start one ingest process on the backlog; return how many writes a second leave it."""
        with self._task("drain, one process", self._options.jobs) as advance:
            async with self._waiting() as waiting, worker_process(self._settings, "ingest"):
                return await drained_rate(waiting, self._options.jobs, timeout_s=_DRAIN_TIMEOUT_S, on_progress=advance)

    async def _visible(self) -> Latency:
        """One write at a time on an idle system, until a search can find it."""
        async with self._queue() as queue, worker_process(self._settings, "ingest"):

            async def write(_: int) -> None:
                receipt = await queue.upsert_many(self._take(1))
                await queue.wait_applied(receipt[0], timeout=_APPLIED_TIMEOUT_S)

            with self._task("write until searchable", self._options.calls):
                return await closed_loop(write, count=self._options.calls)

    async def _search(self) -> tuple[Latency, Latency]:
        """The same searches through the queue and straight at the engine, one caller."""
        calls = self._options.calls
        async with (
            self._queue() as queue,
            worker_process(self._settings, "search"),
            open_store(self._settings) as store,
        ):

            async def ask(number: int) -> None:
                query = self._query(number)
                await queue.search(user_id=query.user_id, vector=query.vector, min_score=query.min_score)

            async def ask_directly(number: int) -> None:
                await store.search(self._query(number), timeout_s=self._settings.qdrant_timeout_s)

            with self._task("search", 2 * calls):
                return await closed_loop(ask, count=calls), await closed_loop(ask_directly, count=calls)

    async def _arq_per_write(self) -> float:
        """The peer: one arq job per write, into the same collection."""
        jobs = self._options.peer_jobs
        pool = await create_pool(peer_arq.redis_settings(self._settings), default_queue_name=peer_arq.QUEUE)
        try:
            for job in self._take(jobs):
                vector = unpack_vector(bytes(job.vector)).tolist()  # type: ignore[arg-type]  # the load packs its vectors
                payload = {**job.payload, "user_id": job.user_id, "_point_id": job.point_id}
                await pool.enqueue_job("upsert", primary_id(job.point_id), vector, payload)

            async def waiting() -> int:
                return int(await pool.zcard(peer_arq.QUEUE))

            with self._task("one arq job per write", jobs) as advance:
                async with peer_process(self._settings, "worker.bench.peer_arq"):
                    return await drained_rate(waiting, jobs, timeout_s=_DRAIN_TIMEOUT_S, on_progress=advance)
        finally:
            await pool.aclose(close_connection_pool=True)

    def _take(self, count: int) -> list[Upsert]:
        first, self._next_write = self._next_write, self._next_write + count
        return list(self._load.writes(first, count))

    def _query(self, number: int) -> Search:
        return Search(user_id=self._load.user(number), vector=self._load.vector(number), min_score=_SEARCH_SCORE)

    async def _push_next(self, queue: MemoryQueue) -> None:
        job = self._take(1)[0]
        await queue.upsert(user_id=job.user_id, point_id=job.point_id, vector=job.vector, payload=job.payload)

    def _queue(self) -> MemoryQueue:
        return open_client(self._settings)

    @asynccontextmanager
    async def _collections(self) -> AsyncIterator[None]:
        """Fix the queue's limits and make the collections; remove both afterwards."""
        # The store is closed in between: gRPC and the starting of processes get in each other's way.
        redis = open_queue(self._settings)
        keys = Keys(self._settings.queue_prefix)
        try:
            await publish_meta(redis, keys, queue_meta(self._settings))
            async with open_store(self._settings) as store:
                await store.prepare()
            yield
        finally:
            async with open_store(self._settings) as store:
                for kind in KINDS:
                    await store.collections.drop(CollectionRef(kind))
            async for key in redis.scan_iter(match=f"*{keys.prefix}:*", count=1000):
                await redis.delete(key)
            await redis.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[Callable[[], Awaitable[int]]]:
        redis = open_queue(self._settings)
        keys = Keys(self._settings.queue_prefix)

        async def waiting() -> int:
            states = await partition_states(redis, keys, self._settings.queue_partitions)
            return sum(state.waiting for state in states)

        try:
            yield waiting
        finally:
            await redis.aclose(close_connection_pool=True)

    @contextmanager
    def _task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        task = self._progress.add_task(what, total=total)
        yield lambda done: self._progress.update(task, completed=done)
        self._progress.update(task, completed=total)
        self._progress.remove_task(task)
