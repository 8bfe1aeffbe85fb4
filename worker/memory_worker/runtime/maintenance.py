"""Maintenance: periodic work on the queue, besides the drains.

Each turn reads Redis's clock, checks whether Redis accepts writes, publishes limits that Redis has lost, and rescues
partitions that no worker drains. A full Redis refuses the writes by which workers claim drain jobs, so memory would
never be freed. Then maintenance itself drains, because the scripts of drains may run in a full Redis. If Redis is
unreachable, hangs or refuses for longer than ``REDIS_PATIENCE_S``, the process ends with the reason, because a worker
that only seems to work would be worse.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NoReturn

from redis.asyncio import Redis

from memory_worker.contract.errors import QueueError, QueueOutOfMemory
from memory_worker.ingest.context import HELD_DELAY_S
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.retry import MAX_RETRY_AFTER_S
from memory_worker.queue.drain_jobs import rescue_partitions
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.state import partition_states
from memory_worker.telemetry.health import Health
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.asking import primaries_in
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.primaries import Address

logger = logging.getLogger(__name__)

_CANARY_LIFE_MS = 60_000


class Maintenance:
    """Maintains one queue. Without a ``drainer`` (in a process that only searches) it rescues no partitions."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        clock: RedisClock,
        *,
        meta: QueueMeta,
        interval_s: float,
        retry_max_s: float,
        drainer: Drainer | None,
        patience_s: float,
        health: Health,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._meta = meta
        self._interval_s = interval_s
        self._longest_delay_s = max(retry_max_s, MAX_RETRY_AFTER_S, HELD_DELAY_S)
        self._drainer = drainer
        self._patience_s = patience_s
        self._health = health
        self._primary: Address | None = None

    async def run(self) -> NoReturn:
        """Maintain the queue until cancelled.

        Raises `QueueUnavailable` if Redis fails for longer than the patience, `PartitionMismatch` if the number of
        partitions was changed.
        """
        succeeded_at = time.monotonic()
        while True:
            try:
                await self._turn()
                succeeded_at = time.monotonic()
            except QueueError as error:
                log_event(logger, logging.WARNING, "redis_unwell", error=str(error))
                self._health.down("redis", str(error))
                if time.monotonic() - succeeded_at > self._patience_s:
                    raise
            await asyncio.sleep(self._interval_s)

    async def _turn(self) -> None:
        await self._clock.refresh(self._redis)
        self._watch_primary()
        await self._publish()
        full = not await self._accepts_writes()
        if full:
            self._health.down("redis", "Redis is full")
        else:
            self._health.up("redis", _shown(self._primary))
        if self._drainer is None:
            return
        rescued = await rescue_partitions(
            self._redis, self._keys, self._meta.partitions, longest_delay_s=self._longest_delay_s
        )
        if rescued:
            log_event(logger, logging.INFO, "rescued", partitions=rescued)
        if full:
            await self._drain_all(self._drainer)

    def _watch_primary(self) -> None:
        """Log the primary that Sentinel or the cluster has named, if it is another one than before."""
        primaries, before = primaries_in(self._redis), self._primary
        if primaries is not None and primaries.found != before:
            self._primary = primaries.found
            log_event(logger, logging.INFO, "redis_primary", address=str(primaries.found), before=_shown(before))

    async def _publish(self) -> None:
        """Publish the limits of producers that Redis has lost.

        Raises `PartitionMismatch` if the number of partitions was changed, because then drains get no leases.
        """
        published = await publish_meta(self._redis, self._keys, self._meta, only_missing=True)
        if published:
            log_event(logger, logging.WARNING, "limits_published_again", limits=published)

    async def _accepts_writes(self) -> bool:
        """Return ``False`` if Redis is full. Raises `QueueUnavailable` if it refuses for another reason."""
        try:
            with queue_request("canary"):
                await self._redis.set(self._keys.canary, "1", px=_CANARY_LIFE_MS)
        except QueueOutOfMemory as error:
            log_event(logger, logging.ERROR, "redis_full", error=str(error))
            return False
        return True

    async def _drain_all(self, drainer: Drainer) -> None:
        for state in await partition_states(self._redis, self._keys, self._meta.partitions):
            if state.waiting and state.lease_s is None:
                await drainer.drain(state.partition)


def _shown(address: Address | None) -> str:
    return "" if address is None else str(address)
