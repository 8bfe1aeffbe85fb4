"""The roles as arq workers, built from the settings: what arq is told, and what it is kept from doing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, cast

import msgspec
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.worker import Worker, func
from redis.exceptions import NoPermissionError

from worker.contract import MAX_TIMEOUT_MS
from worker.errors import PartitionMismatch, QueueError
from worker.ingest.drain import Drainer
from worker.logs import log_event
from worker.queue.codec import decode_arq, encode_arq
from worker.queue.doorbell import DRAIN, ring
from worker.queue.keys import Keys
from worker.reads import READ_JOBS, Reads
from worker.settings import Settings

logger = logging.getLogger(__name__)

_NEVER = 2**31
"""Tries after which arq would give a job up: what to do with a job is for the drain to decide."""
_DRAIN_TIMEOUT_S = 600.0
"""Beyond any drain, which ends itself; what ends a drain whose process is gone is its lease, not arq's mark."""
_READ_TIMEOUT_EXTRA_S = 5.0
_READ_RESULT_S = 60.0
_HEALTH_INTERVAL_S = 5.0
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999
_RING_AFTER = "ring_after_s"


def ingest_worker(redis: ArqRedis, settings: Settings, drainer: Drainer, polled: Callable[[], None]) -> Worker:
    """Return the arq worker that drains partitions, and tells whenever it has looked for work."""
    keys = Keys(settings.queue_prefix)

    async def drain(ctx: dict[str, Any], partition: int) -> None:
        if ctx["job_id"] != keys.drain_job_id(partition):
            raise QueueError("a drain that is not the doorbell of its partition")
        ctx[_RING_AFTER] = settings.retry_max_s  # should the drain end in an error that nobody foresaw
        try:
            ctx[_RING_AFTER] = (await drainer.drain(partition)).ring_after_s
        except (QueueError, PartitionMismatch) as error:
            log_event(logger, logging.WARNING, "drain_failed", partition=partition, error=str(error))

    async def ring_again(ctx: dict[str, Any]) -> None:
        delay_s = ctx.get(_RING_AFTER)
        if delay_s is None:
            return
        try:
            await ring(redis, keys, keys.partition_of_job_id(ctx["job_id"]), delay_s=delay_s)
        except QueueError as error:
            # The caretaker rings in its stead.
            log_event(logger, logging.WARNING, "ring_failed", job=ctx["job_id"], error=str(error))

    return _worker(
        redis,
        settings,
        {DRAIN: drain},
        queue_name=keys.drain_queue,
        max_jobs=settings.worker_concurrency,
        poll_ms=settings.worker_poll_ms,
        polled=polled,
        timeout_s=_DRAIN_TIMEOUT_S,
        after_job_end=ring_again,
    )


def search_worker(redis: ArqRedis, settings: Settings, reads: Reads, polled: Callable[[], None]) -> Worker:
    """Return the arq worker that answers read jobs, and tells whenever it has looked for work."""
    return _worker(
        redis,
        settings,
        {str(job.__struct_config__.tag): reads.function(job) for job in READ_JOBS},
        queue_name=Keys(settings.queue_prefix).search_queue,
        max_jobs=settings.search_concurrency,
        poll_ms=settings.search_poll_ms,
        polled=polled,
        timeout_s=MAX_TIMEOUT_MS / 1000 + _READ_TIMEOUT_EXTRA_S,
        keep_result_s=_READ_RESULT_S,
    )


def _worker(
    redis: ArqRedis,
    settings: Settings,
    functions: dict[str, Callable[..., Awaitable[Any]]],
    *,
    queue_name: str,
    max_jobs: int,
    poll_ms: int,
    polled: Callable[[], None],
    timeout_s: float,
    keep_result_s: float = 0,
    after_job_end: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> Worker:
    return _Worker(
        polled,
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
        queue_read_limit=max(2 * settings.queue_partitions, 1000),
        health_check_interval=_HEALTH_INTERVAL_S,
        handle_signals=False,
        log_results=False,
        job_serializer=encode_arq,
        job_deserializer=_decode_job,
    )


class _Worker(Worker):
    """An arq worker that whoever may write to its queue cannot end: for good, if the job stays in the queue."""

    def __init__(self, polled: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._polled = polled

    async def _poll_iteration(self) -> None:
        await super()._poll_iteration()
        self._polled()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start jobs; forget those whose id arq cannot read, or whose keys this user of Redis may not touch."""
        own = f"{self.queue_name.rpartition(':')[0]}:".encode()
        foreign = {job_id for job_id in job_ids if not (job_id.startswith(own) and job_id.isascii())}
        hopeless = [job_id for job_id in foreign if not await self._can_be_started(job_id)]
        if hopeless:
            await self.pool.zrem(self.queue_name, *hopeless)
            log_event(logger, logging.ERROR, "foreign_jobs_removed", queue=self.queue_name, jobs=len(hopeless))
        await super().start_jobs([job_id for job_id in job_ids if job_id not in hopeless])

    async def _can_be_started(self, job_id: bytes) -> bool:
        try:
            await self.pool.exists(f"{in_progress_key_prefix}{job_id.decode()}")
        except (UnicodeDecodeError, NoPermissionError):
            return False
        return True


class _JobRecord(msgspec.Struct):
    """A job as arq writes it: what it takes on trust, and ends at once if it is otherwise."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: Annotated[int, msgspec.Meta(ge=0, lt=_NEVER)] | None
    et: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)]


def _decode_job(body: bytes) -> dict[str, Any]:
    record = decode_arq(body)
    msgspec.convert(record, _JobRecord)
    return record
