"""The taker: a task of each ingest worker that takes over the writes of arq's own client.

It looks every ``ARQ_WRITES_POLL_MS`` milliseconds, in one round trip, and goes on at once while writes are due. If the
queue is full, or Redis fails, the writes stay in arq's queue and are tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import NoReturn

from redis.asyncio import Redis

from memory_worker.contract.errors import PartitionMismatch, QueueError
from memory_worker.failpoints import failpoint
from memory_worker.ingest.arq_jobs import largest_record_bytes, new_entry
from memory_worker.queue.arq_writes import ArqWrite, NewEntry, TakenOver, due_arq_writes, take_over
from memory_worker.telemetry.logs import log_event
from memory_worker.telemetry.metrics import ARQ_WRITES
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_SHORTEST_POLL = 0.75
"""The shortest poll interval, as a fraction of the longest. Otherwise takers might always look at the same time."""
_AT_ONCE = 16
"""How many writes are encoded without a pause."""
_MAX_IDS = 5
"""How many job ids are logged."""
_ID_LENGTH = 100


class ArqTaker:
    """Takes over the writes of arq's own client. Any number of takers may run at once.

    ``meta`` is used while Redis has lost the published limits.
    """

    def __init__(self, redis: Redis, keys: Keys, meta: QueueMeta, clock: RedisClock, *, poll_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._meta = meta
        self._clock = clock
        self._poll_s = poll_s

    async def run(self) -> NoReturn:
        """Take over writes until cancelled. Errors are logged, because they must not end the worker."""
        while True:
            try:
                more = await self.look()
                delay_s = 0 if more else self._poll_s * random.uniform(_SHORTEST_POLL, 1.0)
            except (QueueError, PartitionMismatch) as error:
                log_event(logger, logging.WARNING, "arq_writes_wait", error=str(error))
                delay_s = _RETRY_S
            except Exception as error:  # noqa: BLE001
                log_event(logger, logging.ERROR, "arq_writes_wait", failure=error, error=str(error))
                delay_s = _RETRY_S
            await asyncio.sleep(delay_s)

    async def look(self) -> bool:
        """Take over the writes at the head of arq's queue. Return whether more may be due.

        Raises `QueueFull`, `PartitionMismatch` or `QueueUnavailable`. Then the other writes stay in arq's queue.
        """
        writes, removed = await due_arq_writes(self._redis, self._keys, largest_bytes=largest_record_bytes(self._meta))
        if removed:
            _record_expired(removed)
        if not writes:
            return bool(removed)  # removed ones may have filled the page
        failpoint("arq_writes_read")
        self._meta = meta = await read_meta(self._redis, self._keys) or self._meta
        entries = await _new_entries(writes, meta)
        now_ms = int(self._clock.now_ms())
        taken = await take_over(self._redis, self._keys, meta.partitions, entries, now_ms=now_ms)
        failpoint("arq_writes_taken_over")
        _record_taken(entries, taken)
        if taken.full is not None:
            raise taken.full
        return any(taken.receipts)  # else others are taking over the same writes


async def _new_entries(writes: Sequence[ArqWrite], meta: QueueMeta) -> list[NewEntry]:
    entries = []
    for position, write in enumerate(writes, 1):
        entries.append(new_entry(write, meta))
        if position % _AT_ONCE == 0:
            await asyncio.sleep(0)  # reads and drains of this process go on
    return entries


def _record_expired(removed: list[bytes]) -> None:
    ARQ_WRITES.labels("expired").inc(len(removed))
    ids = [_text(job_id) for job_id in removed[:_MAX_IDS]]
    log_event(logger, logging.ERROR, "arq_writes_expired", jobs=len(removed), ids=ids)


def _record_taken(entries: list[NewEntry], taken: TakenOver) -> None:
    for entry, receipt in zip(entries, taken.receipts, strict=False):
        if receipt is None:
            continue
        error = entry.result.error
        ARQ_WRITES.labels("taken_over" if error is None else "refused").inc()
        if error is not None:
            job_id = _text(entry.write.job_id)
            log_event(
                logger, logging.ERROR, "arq_write_refused", job=job_id, receipt=str(receipt), reason=entry.result.reason
            )


def _text(job_id: bytes) -> str:
    return job_id.decode(errors="backslashreplace")[:_ID_LENGTH]
