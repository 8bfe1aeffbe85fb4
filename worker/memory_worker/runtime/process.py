"""One worker process: its connections, the supervised arq workers of its roles, and its graceful shutdown.

    ingest      drains partitions
    search      answers read jobs; reads of all users in a part of its own, ``admin``

A failure of one role does not stop the other: each role has its own connections and its own supervisor.
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
from memory_worker.console.application import console
from memory_worker.console.sources import ConsoleSources
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.contract.errors import ConfigurationError, QueueError, StoreError, StoreUnavailable
from memory_worker.http.pages import Rates, pages
from memory_worker.http.server import Application, http_server
from memory_worker.ingest.arq_taker import ArqTaker
from memory_worker.ingest.drainer import Drainer
from memory_worker.inspection.fleet import Reporter
from memory_worker.inspection.history import History
from memory_worker.inspection.queue_stats import StatsCollector, StatsExporter
from memory_worker.queue import processes
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.server import check_server, refuse_unsafe
from memory_worker.reads.handlers import Reads
from memory_worker.runtime.arq_workers import ReadWorker
from memory_worker.runtime.console_wiring import ConsoleWiring
from memory_worker.runtime.idle_memory import return_freed_memory, return_memory_when_idle
from memory_worker.runtime.maintenance import Maintenance
from memory_worker.runtime.progress import Progress
from memory_worker.runtime.roles import admin_worker, ingest_worker, search_worker
from memory_worker.runtime.wiring import (
    admin_memory_limits,
    connected_queue_and_store,
    drain_options,
    open_queue,
    queue_meta,
    read_memory_limits,
)
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
from memory_worker.wire.keys import Keys, admin_reads

logger = logging.getLogger(__name__)

_STALE_S = 15.0
"""A component counts as down if it was last checked longer ago than this."""
_STATS_EVERY_S = 2.0
_WATCH_EVERY_S = 2.0
_RESTART_DELAY_S = 1.0
_CANCEL_AGAIN_S = 1.0
_LEAVE_TIMEOUT_S = 1.0


class WorkerProcess:
    """One worker process. Call `run`, and `stop` to end it."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._process_id = secrets.token_hex(8)
        self._stop = asyncio.Event()
        self._workers: dict[str, Worker] = {}
        self._reading: set[asyncio.Task[Any]] = set()
        busy_s = settings.qdrant_timeout_s + settings.drain_slice_s
        roles = {name: _STALE_S + busy_s for name in ("ingest", "search") if role in (name, "all")}
        if "search" in roles and settings.admin_concurrency:
            roles["admin"] = roles["search"]
        self._health = Health({"redis": _STALE_S, "qdrant": _STALE_S, **roles})

    async def run(self, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Work until `stop` is called, then finish the running jobs.

        Raises `ConfigurationError`, `QueueUnavailable` or `StoreError` if it cannot start, and `QueueUnavailable` if
        Redis is unreachable, hangs or refuses for too long.
        """
        settings, keys = self._settings, Keys(self._settings.queue_prefix)
        async with connected_queue_and_store(settings) as (redis, store):
            stats_collector = StatsCollector(redis, keys, store, interval_s=_STATS_EVERY_S)
            async with self._serving_http(stats_collector, redis, store):
                await self._check_redis(redis)
                clock = RedisClock()
                await publish_meta(redis, keys, queue_meta(settings), only_missing=True)
                await clock.refresh(redis)
                await processes.beat(redis, keys, self._process_id, self._role)
                await self._prepare(store)
                # Limits that do not fit the collections must not reach producers.
                await publish_meta(redis, keys, queue_meta(settings))
                drainer = self._drainer(redis, keys, store, clock)
                background = {
                    "maintenance": self._maintenance(redis, keys, clock, drainer).run(),
                    "process": processes.keep_beating(redis, keys, self._process_id, self._role, Reporter()),
                    "store watch": self._watch(store, drainer),
                    "stats collector": stats_collector.run(),
                    "progress": Progress(stats_collector.latest).keep_reporting(),
                    "memory": return_memory_when_idle(self._is_idle, return_freed_memory),
                }
                if self._role != "search" and settings.arq_writes_poll_ms:
                    taker = ArqTaker(
                        redis, keys, queue_meta(settings), clock, poll_s=settings.arq_writes_poll_ms / 1000
                    )
                    background["arq writes"] = taker.run()
                builders = self._builders(drainer, partial(Reads, redis, keys, store, settings.limits, clock))
                log_event(logger, logging.INFO, "started", role=self._role, partitions=settings.queue_partitions)
                await self._work(builders, background, on_ready)
                await self._leave(redis, keys)
                log_event(logger, logging.INFO, "stopped", role=self._role)

    def _drainer(self, redis: Redis, keys: Keys, store: VectorStore, clock: RedisClock) -> Drainer:
        options, stopping = drain_options(self._settings), self._stop.is_set
        return Drainer(redis, keys, store, options, process=self._process_id, clock=clock, stopping=stopping)

    async def _check_redis(self, redis: Redis) -> None:
        """Refuse a Redis that loses jobs, and log its other problems."""
        checks = await check_server(
            redis, allow_eviction=self._settings.redis_allow_eviction, prefix=self._settings.queue_prefix
        )
        refuse_unsafe(checks)
        for check in checks:
            if check.verdict != "ok":
                log_event(
                    logger, logging.WARNING, "redis_unsafe", what=check.name, seen=check.seen, advice=check.advice
                )

    async def _leave(self, redis: Redis, keys: Keys) -> None:
        """Remove this process from the list of processes. If Redis does not answer, the entry expires in seconds."""
        with contextlib.suppress(QueueError, TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await processes.leave(redis, keys, self._process_id, self._role)

    def stop(self) -> None:
        """End `run` once the running jobs are finished, or after ``WORKER_GRACE_S`` seconds."""
        self._stop.set()

    def _is_idle(self) -> bool:
        return all(task.done() for worker in self._workers.values() for task in worker.tasks.values())

    @contextlib.asynccontextmanager
    async def _serving_http(
        self, stats_collector: StatsCollector, redis: Redis, store: VectorStore
    ) -> AsyncIterator[None]:
        """Serve the HTTP pages. This comes first, because the rest of the start may take long and fail."""
        rates = Rates()
        history = History(redis, Keys(self._settings.queue_prefix), stats_collector.latest)
        with self._http(stats_collector, rates, self._console(redis, store, stats_collector, history)):
            tasks = [asyncio.create_task(beat(self._health, rates.sample), name="beat")]
            if self._settings.console_enabled:
                tasks.append(asyncio.create_task(history.run(), name="history"))
            try:
                yield
            finally:
                await _cancel_all(tasks)

    @contextlib.contextmanager
    def _http(self, stats_collector: StatsCollector, rates: Rates, other: Application | None) -> Iterator[None]:
        expose_process()
        start_at_zero()
        connection.request_timer = partial(timed, REDIS_REQUESTS)
        INFO.labels(__version__, self._role, str(CONTRACT_VERSION)).set(1)
        exporter = StatsExporter(stats_collector)
        REGISTRY.register(exporter)
        try:
            sources = pages(self._health, self._role, stats_collector.latest, rates)
            with http_server(self._settings.http_host, self._settings.port, sources, other) as port:
                log_event(logger, logging.INFO, "http", host=self._settings.http_host, port=port)
                yield
        finally:
            REGISTRY.unregister(exporter)

    def _console(
        self, redis: Redis, store: VectorStore, stats_collector: StatsCollector, history: History
    ) -> Application | None:
        """Return the console, unless it is turned off."""
        settings = self._settings
        if not settings.console_enabled:
            return None
        wiring = ConsoleWiring(settings, redis, store, asyncio.get_running_loop())
        return console(
            ConsoleSources(
                settings=settings,
                role=self._role,
                process_id=self._process_id,
                health=self._health,
                stats=stats_collector.latest,
                history=history.samples,
                connect=wiring.connect,
                run_checks=wiring.run_checks,
            )
        )

    def _builders(self, drainer: Drainer, open_reads: Callable[..., Reads]) -> dict[str, Callable[[], Worker]]:
        """Return a function for each part of this process's roles that builds its arq worker."""
        settings, up = self._settings, self._health.up
        builders: dict[str, Callable[[], Worker]] = {}
        if self._role in ("ingest", "all"):
            builders["ingest"] = lambda: ingest_worker(open_queue(settings), settings, drainer, lambda: up("ingest"))
        if self._role in ("search", "all"):
            reads = open_reads(memory_limits=read_memory_limits(settings))
            builders["search"] = lambda: search_worker(open_queue(settings), settings, reads, lambda: up("search"))
            if settings.admin_concurrency:
                keys = Keys(settings.queue_prefix)
                admin = open_reads(memory_limits=admin_memory_limits(settings), queue=admin_reads(keys))
                builders["admin"] = lambda: admin_worker(open_queue(settings), settings, admin, lambda: up("admin"))
        return builders

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
        """Create and check the collections. If Qdrant is down, the drains wait for it."""
        try:
            await store.prepare()
        except StoreUnavailable as error:
            self._health.down("qdrant", str(error))
            log_event(logger, logging.WARNING, "store_unavailable", error=str(error))

    async def _watch(self, store: VectorStore, drainer: Drainer) -> None:
        """Check repeatedly whether Qdrant answers, and whether drains can write to it."""
        while True:
            try:
                await store.version()
                problem = drainer.recent_error(within_s=_STALE_S)
            except StoreError as error:
                problem = str(error)
            if problem is None:
                self._health.up("qdrant")
            else:
                self._health.down("qdrant", problem)
            await asyncio.sleep(_WATCH_EVERY_S)

    async def _work(
        self,
        builders: dict[str, Callable[[], Worker]],
        background: dict[str, Coroutine[Any, Any, None]],
        on_ready: Callable[[], None],
    ) -> None:
        roles = [
            asyncio.create_task(self._supervise(name, build), name=f"role {name}") for name, build in builders.items()
        ]
        background_tasks = [asyncio.create_task(work, name=name) for name, work in background.items()]
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        gc.freeze()  # loaded modules stay forever: each collection would scan them for 50 ms
        on_ready()
        try:
            await asyncio.wait([*roles, *background_tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await self._finish(roles)
        finally:
            await _cancel_all([*roles, *background_tasks, stopping, *self._reading])
        for task in (*background_tasks, *roles):
            if not task.cancelled():
                task.result()

    async def _supervise(self, name: str, build: Callable[[], Worker]) -> None:
        """Run a role's arq worker until `stop`. If it ends for another reason, build a new one."""
        while not self._stop.is_set():
            worker = self._workers[name] = build()
            try:
                await worker.async_run()
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001  # after any error of arq's loop it is started again
                reason = str(error) or type(error).__name__
                self._health.down(name, reason)
                ROLE_RESTARTS.labels(name).inc()
                log_event(logger, logging.ERROR, "role_restarts", role=name, error=reason)
                await asyncio.sleep(_RESTART_DELAY_S)
            finally:
                await self._close(worker)

    async def _close(self, worker: Worker) -> None:
        """Cancel the running jobs and close the connections. arq's own ``close`` stops at the first cancelled task.

        Running reads are not cancelled unless the process stops, because no other worker would answer their callers.
        """
        redis, tasks = worker.pool, list(worker.tasks.values())
        if isinstance(worker, ReadWorker) and not self._stop.is_set():
            self._reading.update(tasks)
            for task in tasks:
                task.add_done_callback(self._reading.discard)
            tasks = []
        await _cancel_all([task for task in (worker.main_task, *tasks) if task is not None])
        with contextlib.suppress(QueueError), queue_errors():
            await close_redis(redis)

    async def _finish(self, roles: list[asyncio.Task[None]]) -> None:
        """Take no new jobs, and wait for the running jobs, for at most ``WORKER_GRACE_S`` seconds."""
        for worker in self._workers.values():
            # arq's loop ends by itself once it may start no more jobs and all started jobs are done.
            worker.burst, worker.max_burst_jobs = True, 0
        await asyncio.wait(roles, timeout=self._settings.worker_grace_s)


async def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end. One cancellation may not be enough, because redis-py can swallow it."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
