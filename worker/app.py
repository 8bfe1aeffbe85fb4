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
from typing import Any, cast

from arq.connections import ArqRedis
from arq.worker import Worker, func

from worker.errors import ConfigurationError, MemoryWorkerError
from worker.ingest.drain import Drainer, DrainOptions
from worker.ingest.retry import RetryPolicy
from worker.logs import log_event
from worker.queue.clock import RedisClock
from worker.queue.codec import decode_arq, encode_arq
from worker.queue.connection import open_redis
from worker.queue.doorbell import DRAIN, ring, sweep
from worker.queue.keys import Keys
from worker.queue.meta import QueueMeta, publish_meta
from worker.reads import READ_JOBS, Reads
from worker.settings import Role, Settings
from worker.store.collections import CollectionShape
from worker.store.store import VectorStore

logger = logging.getLogger(__name__)

_NEVER = 2**31
"""Tries after which arq would give a job up: what to do with a job is for the drain to decide."""
_JOB_TIMEOUT_EXTRA_S = 5.0
_HEALTH_INTERVAL_S = 5.0
_RESTART_DELAY_S = 1.0
_READ_RESULT_S = 60.0
_RING_AFTER = "ring_after_s"


def open_store(settings: Settings) -> VectorStore:
    """Return the store at ``QDRANT_URL``; within the event loop that will use it."""
    if settings.qdrant_url is None:
        raise ConfigurationError("QDRANT_URL is not set")
    api_key = settings.qdrant_api_key
    return VectorStore(
        settings.qdrant_url,
        CollectionShape(
            memories=settings.qdrant_memories_collection,
            documents=settings.qdrant_documents_collection,
            dimension=settings.qdrant_vector_dimension,
            quantize_int8=settings.qdrant_quantization == "int8",
            hnsw_m=settings.qdrant_hnsw_m,
            hnsw_ef_construct=settings.qdrant_hnsw_ef_construct,
            on_disk=settings.qdrant_on_disk,
            shard_number=settings.qdrant_shard_number,
            replication_factor=settings.qdrant_replication_factor,
            write_consistency_factor=settings.qdrant_write_consistency_factor,
        ),
        api_key=api_key.get_secret_value() if api_key else None,
        tls_ca_file=settings.qdrant_tls_ca_file,
        timeout_s=settings.qdrant_timeout_s,
    )


def open_queue(settings: Settings) -> ArqRedis:
    """Return connections to ``REDIS_URL``."""
    if settings.redis_url is None:
        raise ConfigurationError("REDIS_URL is not set")
    return open_redis(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)


def queue_meta(settings: Settings) -> QueueMeta:
    """Return what the workers publish for producers."""
    return QueueMeta(
        partitions=settings.queue_partitions,
        limits=settings.limits,
        max_jobs=settings.queue_max_jobs,
        max_bytes=settings.queue_max_bytes,
    )


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
                await store.prepare()
                with self._signals():
                    log_event(logger, logging.INFO, "started", role=self._role, partitions=settings.queue_partitions)
                    await self._work(redis, store, on_ready)
                    log_event(logger, logging.INFO, "stopped", role=self._role)
        finally:
            await redis.aclose(close_connection_pool=True)

    def stop(self) -> None:
        """End `run`, once work in flight is finished or ``WORKER_GRACE_S`` have passed."""
        self._stop.set()

    async def _work(self, redis: ArqRedis, store: VectorStore, on_ready: Callable[[], None]) -> None:
        builders = {"ingest": self._ingest_worker, "search": self._search_worker}
        names = [name for name in builders if self._role in (name, "all")]
        tasks = [
            asyncio.create_task(self._supervise(name, lambda build=builders[name]: build(store)), name=f"role {name}")  # type: ignore[misc]
            for name in names
        ]
        tasks.append(asyncio.create_task(self._look_after(redis, sweeping="ingest" in names), name="sweeper"))
        on_ready()
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            await self._finish_jobs()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            ended = await asyncio.gather(*tasks, stopping, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _supervise(self, name: str, build: Callable[[], Worker]) -> None:
        """Run a role's arq worker for ever: whatever ends it, a dropped connection say, another is built."""
        while True:
            worker = self._workers[name] = build()
            try:
                await worker.async_run()
            except MemoryWorkerError:
                raise
            except Exception as error:  # noqa: BLE001  # any end of arq's loop means: begin again
                log_event(logger, logging.ERROR, "role_restarts", role=name, error=str(error) or type(error).__name__)
            finally:
                await _close(worker)
            await asyncio.sleep(_RESTART_DELAY_S)

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

    async def _finish_jobs(self) -> None:
        """Take no new jobs, and wait for those in flight, for as long as grace allows."""
        running: list[asyncio.Task[Any]] = []
        for worker in self._workers.values():
            worker.allow_pick_jobs = False
            running += [task for task in worker.tasks.values() if not task.done()]
        if running:
            log_event(logger, logging.INFO, "finishing", jobs=len(running))
            await asyncio.wait(running, timeout=self._settings.worker_grace_s)

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
            result = await drainer.drain(partition)
            ctx[_RING_AFTER] = result.ring_after_s

        async def ring_again(ctx: dict[str, Any]) -> None:
            delay_s = ctx.get(_RING_AFTER, 0.0)
            if delay_s is not None:
                partition = self._keys.partition_of_job_id(ctx["job_id"])
                await ring(redis, self._keys, partition, delay_s=delay_s)

        return self._worker(
            redis,
            {DRAIN: drain},
            queue_name=self._keys.drain_queue,
            max_jobs=settings.worker_concurrency,
            poll_ms=settings.worker_poll_ms,
            timeout_s=settings.drain_slice_s + settings.lease_ttl_s + _JOB_TIMEOUT_EXTRA_S,
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
            timeout_s=settings.qdrant_timeout_s + _JOB_TIMEOUT_EXTRA_S,
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
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await worker.close()
    await redis.aclose(close_connection_pool=True)
