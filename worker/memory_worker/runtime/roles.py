"""Builds the arq workers of the roles from the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from arq.worker import Worker
from redis.asyncio import Redis

from memory_worker.contract.errors import PartitionMismatch, QueueUnavailable
from memory_worker.ingest.drainer import Drainer
from memory_worker.queue.drain_jobs import ClaimedGroup, WakeAfter
from memory_worker.reads.answers import ADMIN_READS, USER_READS
from memory_worker.reads.handlers import Reads
from memory_worker.runtime.arq_workers import DrainWorker, ReadWorker
from memory_worker.settings import Settings
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.keys import Keys, admin_reads, user_reads

logger = logging.getLogger(__name__)


def ingest_worker(redis: Redis, settings: Settings, drainer: Drainer, on_poll: Callable[[], None]) -> Worker:
    """Return the arq worker that drains partitions. It calls ``on_poll`` each time it looks for jobs."""

    async def drain(group: ClaimedGroup) -> Mapping[int, WakeAfter]:
        partitions = group.partitions
        try:
            results = await drainer.drain_group(partitions, group.opened)
            return {number: result.wake_after_s for number, result in results.items() if not result.finished}
        except (QueueUnavailable, PartitionMismatch) as error:
            log_event(logger, logging.WARNING, "drain_failed", partitions=list(partitions), error=str(error))
        except Exception as error:  # noqa: BLE001  # an unexpected error must not stop the role
            if len(partitions) > 1:  # nor the other partitions of the group
                ends = await asyncio.gather(*(drain(ClaimedGroup([partition])) for partition in partitions))
                return {partition: after_s for end in ends for partition, after_s in end.items()}
            log_event(logger, logging.ERROR, "drain_failed", failure=error, partitions=partitions, error=str(error))
        return dict.fromkeys(partitions, settings.retry_max_s)

    return DrainWorker(
        redis,
        Keys(settings.queue_prefix),
        drain,
        drainer.opening,
        partitions=settings.queue_partitions,
        batch_jobs=settings.batch_max_jobs,
        max_jobs=settings.worker_concurrency,
        poll_s=_poll_s(settings, settings.worker_poll_ms),
        on_poll=on_poll,
    )


def search_worker(redis: Redis, settings: Settings, reads: Reads, on_poll: Callable[[], None]) -> Worker:
    """Return the arq worker that answers reads of a user. It calls ``on_poll`` each time it looks for jobs."""
    keys = Keys(settings.queue_prefix)
    return ReadWorker(
        redis,
        keys,
        user_reads(keys),
        reads.arq_functions(USER_READS),
        max_jobs=settings.search_concurrency,
        poll_s=_poll_s(settings, settings.search_poll_ms),
        on_poll=on_poll,
    )


def admin_worker(redis: Redis, settings: Settings, reads: Reads, on_poll: Callable[[], None]) -> Worker:
    """Return the arq worker that answers reads of all users. It calls ``on_poll`` each time it looks for jobs."""
    keys = Keys(settings.queue_prefix)
    return ReadWorker(
        redis,
        keys,
        admin_reads(keys),
        reads.arq_functions(ADMIN_READS),
        max_jobs=settings.admin_concurrency,
        poll_s=_poll_s(settings, settings.search_poll_ms),
        on_poll=on_poll,
    )


def _poll_s(settings: Settings, poll_ms: int) -> float:
    """Return how long to block on the wakeup list. Redis must answer before the timeout of the connection."""
    return min(poll_ms / 1000, settings.redis_timeout_s / 2)
