"""One process: its connections, the arq workers of its roles, supervised, and stopped with grace.

    ingest      drains partitions
    search      answers read jobs

The roles do not take each other down: each has connections and a supervisor of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from arq.worker import Worker
from redis.asyncio import Redis

from memory_worker import __version__
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.contract.errors import ConfigurationError, QueueError, StoreError, StoreUnavailable
from memory_worker.http.pages import Rates, pages
from memory_worker.http.server import http_server
from memory_worker.ingest.drainer import Drainer
from memory_worker.inspection.queue_stats import StatsCollector, StatsExporter
from memory_worker.queue import processes
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.server import judge_server, refuse_unsafe
from memory_worker.reads.handlers import Reads
from memory_worker.runtime.arq_clock import follow
from memory_worker.runtime.arq_workers import ReadWorker
from memory_worker.runtime.maintenance import Maintenance
from memory_worker.runtime.roles import ingest_worker, search_worker
from memory_worker.runtime.wiring import drain_options, open_queue, open_store, queue_meta, read_bounds
from memory_worker.settings import Role, Settings
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.health import Health, beat
from memory_worker.telemetry.logs import log_event
from memory_worker.telemetry.metrics import (
    INFO,
    REDIS_REQUESTS,
    REGISTRY,
    ROLE_RESTARTS,
    expose_process,
    start_at_zero,
    timed,
)
from memory_worker.wire import connection
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import close_redis, queue_errors
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

_STALE_S = 15.0
"""What was last seen to be well longer ago than this may not be so any more."""
_STATS_EVERY_S = 2.0
_WATCH_EVERY_S = 2.0
_RESTART_DELAY_S = 1.0
_CANCEL_AGAIN_S = 1.0
_LEAVE_TIMEOUT_S = 1.0


class WorkerProcess:
    """One process. Use `run`, and `stop` to end it."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._process_id = secrets.token_hex(8)
        self._stop = asyncio.Event()
        self._workers: dict[str, Worker] = {}
        self._reading: set[asyncio.Task[Any]] = set()
        busy_s = settings.qdrant_timeout_s + settings.drain_slice_s
        roles = {name: _STALE_S + busy_s for name in ("ingest", "search") if role in (name, "all")}
        self._health = Health({"redis": _STALE_S, "qdrant": _STALE_S, **roles})

    async def run(self, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Work until told to stop (`stop`); then finish what is in flight.

        Raises `ConfigurationError`, `QueueUnavailable` or `StoreError` when it cannot start, `QueueUnavailable` when
        Redis is away, hangs or refuses for too long.
        """
        settings, keys = self._settings, Keys(self._settings.queue_prefix)
        redis = open_queue(settings)
        try:
            async with open_store(settings, redis) as store:
                stats_collector = StatsCollector(redis, keys, store, interval_s=_STATS_EVERY_S)
                async with self._shown(stats_collector):
                    await self._judge(redis)
                    clock = RedisClock()
                    await publish_meta(redis, keys, queue_meta(settings))
                    await clock.refresh(redis)
                    follow(clock)
                    await processes.beat(redis, keys, self._process_id, self._role)
                    await self._prepare(store)
                    drainer = self._drainer(redis, keys, store, clock)
                    attendants = {
                        "caretaker": self._maintenance(redis, keys, clock, drainer).run(),
                        "process": processes.keep_beating(redis, keys, self._process_id, self._role),
                        "store watch": self._watch(store, drainer),
                        "surveyor": stats_collector.run(),
                    }
                    builders = self._builders(
                        drainer, Reads(redis, keys, store, settings.limits, clock, bounds=read_bounds(settings))
                    )
                    log_event(logger, logging.INFO, "started", role=self._role, partitions=settings.queue_partitions)
                    await self._work(builders, attendants, on_ready)
                    await self._leave(redis, keys)
                    log_event(logger, logging.INFO, "stopped", role=self._role)
        finally:
            with contextlib.suppress(QueueError), queue_errors():
                await close_redis(redis)

    def _drainer(self, redis: Redis, keys: Keys, store: VectorStore, clock: RedisClock) -> Drainer:
        options, stopping = drain_options(self._settings), self._stop.is_set
        return Drainer(redis, keys, store, options, process=self._process_id, clock=clock, stopping=stopping)

    async def _judge(self, redis: Redis) -> None:
        """Refuse to work on a Redis that loses jobs, and log what else is wrong with it."""
        judgements = await judge_server(redis, allow_eviction=self._settings.redis_allow_eviction)
        refuse_unsafe(judgements)
        for one in judgements:
            if one.verdict != "ok":
                log_event(logger, logging.WARNING, "redis_unsafe", what=one.name, seen=one.seen, advice=one.advice)

    async def _leave(self, redis: Redis, keys: Keys) -> None:
        """Remove this process from those that live; where Redis does not answer, it is forgotten in a few seconds."""
        with contextlib.suppress(QueueError, TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await processes.leave(redis, keys, self._process_id, self._role)

    def stop(self) -> None:
        """End `run`, once work in flight is finished or ``WORKER_GRACE_S`` have passed."""
        self._stop.set()

    @contextlib.asynccontextmanager
    async def _shown(self, stats_collector: StatsCollector) -> AsyncIterator[None]:
        """Answer over HTTP, from before anything else is tried: that may take long, and fail."""
        rates = Rates()
        with self._http(stats_collector, rates):
            beating = asyncio.create_task(beat(self._health, rates.look), name="beat")
            try:
                yield
            finally:
                await _end([beating])

    @contextlib.contextmanager
    def _http(self, stats_collector: StatsCollector, rates: Rates) -> Iterator[None]:
        expose_process()
        start_at_zero()
        connection.request_timer = partial(timed, REDIS_REQUESTS)
        INFO.labels(__version__, self._role, str(CONTRACT_VERSION)).set(1)
        collector = StatsExporter(stats_collector)
        REGISTRY.register(collector)
        try:
            sources = pages(self._health, self._role, stats_collector.latest, rates)
            with http_server(self._settings.bind_host, self._settings.port, sources) as port:
                log_event(logger, logging.INFO, "http", host=self._settings.bind_host, port=port)
                yield
        finally:
            REGISTRY.unregister(collector)

    def _builders(self, drainer: Drainer, reads: Reads) -> dict[str, Callable[[], Worker]]:
        """Return how the arq worker of each role of this process is built."""
        settings, health = self._settings, self._health
        builders: dict[str, Callable[[], Worker]] = {
            "ingest": lambda: ingest_worker(open_queue(settings), settings, drainer, lambda: health.up("ingest")),
            "search": lambda: search_worker(open_queue(settings), settings, reads, lambda: health.up("search")),
        }
        return {name: build for name, build in builders.items() if self._role in (name, "all")}

    def _maintenance(self, redis: Redis, keys: Keys, clock: RedisClock, drainer: Drainer) -> Maintenance:
        settings = self._settings
        return Maintenance(
            redis,
            keys,
            clock,
            meta=queue_meta(settings),
            interval_s=settings.rescue_interval_s,
            retry_max_s=settings.retry_max_s,
            drainer=drainer if self._role != "search" else None,
            patience_s=settings.redis_patience_s,
            health=self._health,
        )

    async def _prepare(self, store: VectorStore) -> None:
        """Make and check the collections; a Qdrant that is down now is waited for by the drains, as at any time."""
        try:
            await store.prepare()
        except StoreUnavailable as error:
            self._health.down("qdrant", str(error))
            log_event(logger, logging.WARNING, "store_unavailable", error=str(error))

    async def _watch(self, store: VectorStore, drainer: Drainer) -> None:
        """Look whether Qdrant answers, and whether drains can write to it."""
        while True:
            try:
                await store.version()
                trouble = drainer.recent_error(within_s=_STALE_S)
            except StoreError as error:
                trouble = str(error)
            if trouble is None:
                self._health.up("qdrant")
            else:
                self._health.down("qdrant", trouble)
            await asyncio.sleep(_WATCH_EVERY_S)

    async def _work(
        self,
        builders: dict[str, Callable[[], Worker]],
        attendants: dict[str, Coroutine[Any, Any, None]],
        on_ready: Callable[[], None],
    ) -> None:
        roles = [
            asyncio.create_task(self._supervise(name, build), name=f"role {name}") for name, build in builders.items()
        ]
        attending = [asyncio.create_task(work, name=name) for name, work in attendants.items()]
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        gc.freeze()  # what is loaded by now stays: looking through it again would stop everything for 50 ms
        on_ready()
        try:
            await asyncio.wait([*roles, *attending, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await self._finish(roles)
        finally:
            await _end([*roles, *attending, stopping, *self._reading])
        for task in (*attending, *roles):
            if not task.cancelled():
                task.result()

    async def _supervise(self, name: str, build: Callable[[], Worker]) -> None:
        """Run a role's arq worker until told to stop: whatever else ends it, another one is built."""
        while not self._stop.is_set():
            worker = self._workers[name] = build()
            try:
                await worker.async_run()
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001  # any end of arq's loop means: begin again
                reason = str(error) or type(error).__name__
                self._health.down(name, reason)
                ROLE_RESTARTS.labels(name).inc()
                log_event(logger, logging.ERROR, "role_restarts", role=name, error=reason)
                await asyncio.sleep(_RESTART_DELAY_S)
            finally:
                await self._close(worker)

    async def _close(self, worker: Worker) -> None:
        """Cancel what still runs and close the connections; arq's own ``close`` stops at the first cancelled task.

        Reads in flight go on beside the next worker: their callers wait, and nobody else would answer them.
        """
        redis, tasks = worker.pool, list(worker.tasks.values())
        if isinstance(worker, ReadWorker) and not self._stop.is_set():
            self._reading.update(tasks)
            for task in tasks:
                task.add_done_callback(self._reading.discard)
            tasks = []
        await _end([task for task in (worker.main_task, *tasks) if task is not None])
        with contextlib.suppress(QueueError), queue_errors():
            await close_redis(redis)

    async def _finish(self, roles: list[asyncio.Task[None]]) -> None:
        """Take no new jobs, and wait for those in flight, for as long as grace allows."""
        for worker in self._workers.values():
            # arq's loop ends by itself once it may start no more jobs and those it has started are done.
            worker.burst, worker.max_burst_jobs = True, 0
        await asyncio.wait(roles, timeout=self._settings.worker_grace_s)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: redis-py may swallow a cancellation that comes while it looks for stale data."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
