"""The caretaker: looks after the queue beside the drains.

Every interval it follows Redis's clock, tries whether Redis takes writes, publishes limits that Redis has lost, and
rings doorbells that were lost. A Redis that is full refuses the writes by which arq claims jobs, and nothing would
ever free it: then the caretaker drains by itself, for the scripts of a drain are allowed to run in a full Redis. A
Redis that is away, hangs, or refuses for longer than the caretaker's patience ends it with the reason: better a worker
that ends than one that seems to live.
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
from memory_worker.queue.drain_jobs import rescue
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.state import partition_states
from memory_worker.telemetry.health import Health
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta

logger = logging.getLogger(__name__)

_CANARY_LIFE_MS = 60_000


class Maintenance:
    """Looks after one queue; without a ``drainer`` (in a process that only searches) it rings no doorbells."""

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

    async def run(self) -> NoReturn:
        """Look after the queue until cancelled.

        Raises `QueueUnavailable` when patience is at its end, `PartitionMismatch` when somebody has changed the number
        of partitions.
        """
        well_at = time.monotonic()
        while True:
            try:
                await self._look()
                well_at = time.monotonic()
            except QueueError as error:
                log_event(logger, logging.WARNING, "redis_unwell", error=str(error))
                self._health.down("redis", str(error))
                if time.monotonic() - well_at > self._patience_s:
                    raise
            await asyncio.sleep(self._interval_s)

    async def _look(self) -> None:
        await self._clock.refresh(self._redis)
        await self._publish()
        full = not await self._takes_writes()
        if full:
            self._health.down("redis", "Redis is full")
        else:
            self._health.up("redis")
        if self._drainer is None:
            return
        rescued = await rescue(self._redis, self._keys, self._meta.partitions, longest_delay_s=self._longest_delay_s)
        if rescued:
            log_event(logger, logging.INFO, "rescued", partitions=rescued)
        if full:
            await self._drain_all(self._drainer)

    async def _publish(self) -> None:
        """Publish what Redis has lost of the limits that producers must keep.

        Drains of another number of partitions get no lease: a worker that goes on would only seem to live.
        """
        published = await publish_meta(self._redis, self._keys, self._meta, only_missing=True)
        if published:
            log_event(logger, logging.WARNING, "limits_published_again", limits=published)

    async def _takes_writes(self) -> bool:
        """Say whether Redis has room for a write; raises `QueueUnavailable` when it refuses for another reason."""
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
