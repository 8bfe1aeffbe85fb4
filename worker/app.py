"""The arq workers, one per role, in one process: built from the settings, supervised, stopped with grace.

ingest      drains partitions; a sweeper beside it rings doorbells that were lost
search      answers read jobs
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from arq.connections import ArqRedis
from arq.worker import Worker, func

from worker.errors import MemoryWorkerError, QueueError, StoreUnavailable
from worker.ingest.drain import Drainer, DrainOptions
from worker.ingest.retry import RetryPolicy
from worker.logs import log_event
from worker.queue.clock import RedisClock
from worker.queue.codec import decode_arq, encode_arq
from worker.queue.connection import queue_errors
from worker.queue.doorbell import DRAIN, ring, sweep
from worker.queue.keys import Keys
from worker.queue.meta import publish_meta
from worker.reads import READ_JOBS, Reads
from worker.settings import Role, Settings
from worker.store.store import VectorStore
from worker.wiring import open_queue, open_store, queue_meta

logger = logging.getLogger(__name__)

_NEVER = 2**31
"""Tries after which arq would give a job up: what to do with a job is for the drain to decide."""
_DRAIN_TIMEOUT_S = 600.0
"""Beyond any drain, which ends itself; what ends a drain whose process is gone is its lease, not arq's mark."""
_READ_TIMEOUT_EXTRA_S = 5.0
_HEALTH_INTERVAL_S = 5.0
_RESTART_DELAY_S = 1.0
_READ_RESULT_S = 60.0
_CANCEL_AGAIN_S = 1.0
_RING_AFTER = "ring_after_s"


class App:
    """One process: connections, the workers of its roles, and their tasks. Use `run`."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._keys = Keys(settings.queue_prefix)
        self._clock = RedisClock()
        self._stop = asyncio.Event()
        self._workers: dict[str, Worker] = {}

    async def run(self, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Work until told to stop (SIGTERM, SIGINT or `stop`); then finish what is in flight.

        Raises `ConfigurationError`, `QueueUnavailable` or `StoreError` when it cannot start.
        """
        settings = self._settings
        redis = open_queue(settings)
        try:
            async with open_store(settings) as store:
                await publish_meta(redis, self._keys, queue_meta(settings))
                await self._clock.refresh(redis)
                await self._prepare(store)
                with self._signals():
                    log_event(logger, logging.INFO, "started", role=self._role, partitions=settings.queue_partitions)
                    await self._work(redis, store, on_ready)
                    log_event(logger, logging.INFO, "stopped", role=self._role)
        finally:
            await redis.aclose(close_connection_pool=True)

    async def _prepare(self, store: VectorStore) -> None:
        """Make and check the collections; a Qdrant that is down now is waited for by the drains, as at any time."""
        try:
            await store.prepare()
        except StoreUnavailable as error:
            log_event(logger, logging.WARNING, "store_unavailable", error=str(error))

    def stop(self) -> None:
        """End `run`, once work in flight is finished or ``WORKER_GRACE_S`` have passed."""
        self._stop.set()

    async def _work(self, redis: ArqRedis, store: VectorStore, on_ready: Callable[[], None]) -> None:
        builders = {"ingest": self._ingest_worker, "search": self._search_worker}
        chosen = {name: build for name, build in builders.items() if self._role in (name, "all")}
        roles = [
            asyncio.create_task(self._supervise(name, partial(build, store)), name=f"role {name}")
            for name, build in chosen.items()
        ]
        sweeper = asyncio.create_task(self._look_after(redis, sweeping="ingest" in chosen), name="sweeper")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        on_ready()
        try:
            await asyncio.wait([*roles, sweeper, stopping], return_when=asyncio.FIRST_COMPLETED)
            self._stop.set()
            await self._finish(roles)
        finally:
            await _end([*roles, sweeper, stopping])
        for task in (*roles, sweeper):
            if not task.cancelled():
                task.result()

    async def _supervise(self, name: str, build: Callable[[], Worker]) -> None:
        """Run a role's arq worker until told to stop: whatever else ends it, another one is built."""
        while not self._stop.is_set():
            worker = self._workers[name] = build()
            try:
                await worker.async_run()
            except MemoryWorkerError:
                raise
            except Exception as error:  # noqa: BLE001  # any end of arq's loop means: begin again
                log_event(logger, logging.ERROR, "role_restarts", role=name, error=str(error) or type(error).__name__)
                await asyncio.sleep(_RESTART_DELAY_S)
            finally:
                await _close(worker)

    async def _finish(self, roles: list[asyncio.Task[None]]) -> None:
        """Take no new jobs, and wait for those in flight, for as long as grace allows."""
        for worker in self._workers.values():
            # arq's loop ends by itself once it may start no more jobs and those it has started are done.
            worker.burst, worker.max_burst_jobs = True, 0
        await asyncio.wait(roles, timeout=self._settings.worker_grace_s)

    async def _look_after(self, redis: ArqRedis, *, sweeping: bool) -> None:
        """Follow Redis's clock and, where partitions are drained, ring the doorbells that were lost."""
        while True:
            try:
                await self._clock.refresh(redis)
                rung = await sweep(redis, self._keys, self._settings.queue_partitions) if sweeping else 0
                if rung:
                    log_event(logger, logging.INFO, "swept", rung=rung)
            except MemoryWorkerError as error:
                log_event(logger, logging.WARNING, "sweep_failed", error=str(error))
            await asyncio.sleep(self._settings.sweep_interval_s)

    def _ingest_worker(self, store: VectorStore) -> Worker:
        settings = self._settings
        redis = open_queue(settings)
        options = DrainOptions(
            partitions=settings.queue_partitions,
            limits=settings.limits,
            batch_max_jobs=settings.batch_max_jobs,
            batch_max_bytes=settings.batch_max_bytes,
            slice_s=settings.drain_slice_s,
            lease_ttl_s=settings.lease_ttl_s,
            request_timeout_s=settings.qdrant_timeout_s,
            retry=RetryPolicy(settings.retry_base_s, settings.retry_max_s),
        )
        drainer = Drainer(redis, self._keys, store, options, stopping=self._stop.is_set)

        async def drain(ctx: dict[str, Any], partition: int) -> None:
            ctx[_RING_AFTER] = settings.retry_max_s  # should the drain end in an error that nobody foresaw
            try:
                ctx[_RING_AFTER] = (await drainer.drain(partition)).ring_after_s
            except QueueError as error:
                log_event(logger, logging.WARNING, "drain_failed", partition=partition, error=str(error))

        async def ring_again(ctx: dict[str, Any]) -> None:
            delay_s = ctx[_RING_AFTER]
            if delay_s is not None:
                partition = self._keys.partition_of_job_id(ctx["job_id"])
                await ring(redis, self._keys, partition, delay_s=delay_s)

        return self._worker(
            redis,
            {DRAIN: drain},
            queue_name=self._keys.drain_queue,
            max_jobs=settings.worker_concurrency,
            poll_ms=settings.worker_poll_ms,
            timeout_s=_DRAIN_TIMEOUT_S,
            after_job_end=ring_again,
        )

    def _search_worker(self, store: VectorStore) -> Worker:
        settings = self._settings
        redis = open_queue(settings)
        reads = Reads(redis, self._keys, store, settings.limits, self._clock)
        return self._worker(
            redis,
            {str(job.__struct_config__.tag): reads.function(job) for job in READ_JOBS},
            queue_name=self._keys.search_queue,
            max_jobs=settings.search_concurrency,
            poll_ms=settings.search_poll_ms,
            timeout_s=settings.qdrant_timeout_s + _READ_TIMEOUT_EXTRA_S,
            keep_result_s=_READ_RESULT_S,
        )

    def _worker(
        self,
        redis: ArqRedis,
        functions: dict[str, Callable[..., Awaitable[Any]]],
        *,
        queue_name: str,
        max_jobs: int,
        poll_ms: int,
        timeout_s: float,
        keep_result_s: float = 0,
        after_job_end: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> Worker:
        return Worker(
            functions=[func(function, name=name) for name, function in functions.items()],  # type: ignore[arg-type]
            queue_name=queue_name,
            redis_pool=redis,
            max_jobs=max_jobs,
            poll_delay=poll_ms / 1000,
            job_timeout=timeout_s,
            keep_result=keep_result_s,
            after_job_end=cast("Any", after_job_end),
            max_tries=_NEVER,
            # What other workers have claimed stands at the head of the queue: look past all of it.
            queue_read_limit=max(2 * self._settings.queue_partitions, 1000),
            health_check_interval=_HEALTH_INTERVAL_S,
            handle_signals=False,
            log_results=False,
            job_serializer=encode_arq,
            job_deserializer=decode_arq,
        )

    @contextlib.contextmanager
    def _signals(self) -> Any:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        for number in handled:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)


async def _close(worker: Worker) -> None:
    """Cancel what still runs and close the connections; arq's own ``close`` stops at the first cancelled task."""
    redis = worker.pool
    await _end([task for task in (worker.main_task, *worker.tasks.values()) if task is not None])
    with contextlib.suppress(QueueError), queue_errors():
        await redis.delete(worker.health_check_key)
        await redis.aclose(close_connection_pool=True)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: redis-py may swallow a cancellation that comes while it looks for stale data."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
