"""The roles as arq workers, built from the settings: what arq is told, and what it is kept from doing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from arq.worker import Worker, func
from redis.asyncio import Redis

from memory_worker.contract import MAX_TIMEOUT_MS
from memory_worker.contract.errors import PartitionMismatch, QueueUnavailable
from memory_worker.ingest.drainer import Drainer
from memory_worker.queue.drain_jobs import WakeAfter
from memory_worker.reads.handlers import READ_JOBS, Reads
from memory_worker.runtime.arq_workers import DrainWorker, ReadWorker
from memory_worker.settings import Settings
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.arq_records import encode_arq
from memory_worker.wire.drain_job import DRAIN
from memory_worker.wire.keys import Keys

if TYPE_CHECKING:
    from arq.connections import ArqRedis

logger = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S = 600.0
"""Beyond any drain, which ends itself; what ends a drain whose process is gone is its lease, not arq's mark."""
_READ_RESULT_S = 60.0
_OF_BOTH: dict[str, Any] = {
    "health_check_interval": 5.0,
    "handle_signals": False,
    "log_results": False,
    "job_serializer": encode_arq,
}


def ingest_worker(redis: Redis, settings: Settings, drainer: Drainer, polled: Callable[[], None]) -> Worker:
    """Return the arq worker that drains partitions, and tells whenever it has looked for work."""
    keys = Keys(settings.queue_prefix)

    async def drain(partitions: Sequence[int]) -> Mapping[int, WakeAfter]:
        try:
            results = await drainer.drain_group(partitions)
            return {partition: result.wake_after_s for partition, result in results.items()}
        except (QueueUnavailable, PartitionMismatch) as error:
            log_event(logger, logging.WARNING, "drain_failed", partitions=list(partitions), error=str(error))
        except Exception as error:  # noqa: BLE001  # what nobody foresaw must not end the role of all partitions
            if len(partitions) > 1:  # nor keep any of them from being drained but the one to blame
                ends = await asyncio.gather(*(drain([partition]) for partition in partitions))
                return {partition: after_s for end in ends for partition, after_s in end.items()}
            log_event(logger, logging.ERROR, "drain_failed", failure=error, partitions=partitions, error=str(error))
        return dict.fromkeys(partitions, settings.retry_max_s)

    return DrainWorker(
        keys.drain_wakeup,
        polled,
        keys,
        drain,
        partitions=settings.queue_partitions,
        most_jobs=settings.batch_max_jobs,
        poll_s=_poll_s(settings, settings.worker_poll_ms),
        functions=_named({DRAIN: drain}),
        queue_name=keys.drain_queue,
        redis_pool=cast("ArqRedis", redis),  # no method of its own is used
        max_jobs=settings.worker_concurrency,
        job_timeout=_DRAIN_TIMEOUT_S,
        keep_result=0,
        **_OF_BOTH,
    )


def search_worker(redis: Redis, settings: Settings, reads: Reads, polled: Callable[[], None]) -> Worker:
    """Return the arq worker that answers read jobs, and tells whenever it has looked for work."""
    keys = Keys(settings.queue_prefix)
    functions = {str(job.__struct_config__.tag): reads.arq_function(job) for job in READ_JOBS}
    return ReadWorker(
        keys.search_wakeup,
        polled,
        keys,
        poll_s=_poll_s(settings, settings.search_poll_ms),
        functions=_named(functions),
        queue_name=keys.search_queue,
        redis_pool=cast("ArqRedis", redis),  # no method of its own is used
        max_jobs=settings.search_concurrency,
        job_timeout=MAX_TIMEOUT_MS / 1000,
        keep_result=_READ_RESULT_S,
        **_OF_BOTH,
    )


def _poll_s(settings: Settings, poll_ms: int) -> float:
    """Return for how long to wait at the bell: Redis must answer before the connection gives it up."""
    return min(poll_ms / 1000, settings.redis_timeout_s / 2)


def _named(functions: dict[str, Callable[..., Awaitable[Any]]]) -> list[Any]:
    return [func(function, name=name) for name, function in functions.items()]  # type: ignore[arg-type]
