"""Dead letters: entries that can never be applied, kept under their receipts until somebody replays or drops them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from arq.connections import ArqRedis

from memory_worker.contract import Receipt
from memory_worker.queue import scripts
from memory_worker.queue.connection import queue_request
from memory_worker.queue.doorbell import DOORBELL_LIFE_MS, doorbell
from memory_worker.queue.keys import Keys
from memory_worker.queue.log import entry_version

_PAGE = 100


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter: its receipt, why and when (unix seconds) it died, and the job as it was pushed."""

    receipt: Receipt
    reason: str
    detail: str
    op: str
    user_id: str
    died_s: float
    version: int
    body: bytes


class DeadLetters:
    """The dead letters of all partitions."""

    def __init__(self, redis: ArqRedis, keys: Keys, partitions: int) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = partitions

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Yield every dead letter, partition by partition, oldest first."""
        for partition in range(self._partitions):
            start = "-"
            while True:
                with queue_request("dead_list"):
                    page = await self._redis.xrange(self._keys.dead(partition), start, "+", count=_PAGE)
                for entry_id, fields in page:
                    yield _letter(Receipt(partition, entry_id.decode()), fields)
                if len(page) < _PAGE:
                    break
                start = f"({page[-1][0].decode()}"

    async def get(self, receipt: Receipt) -> DeadLetter | None:
        """Return the dead letter of ``receipt``, if there is one."""
        with queue_request("dead_get"):
            found = await self._redis.xrange(self._keys.dead(receipt.partition), receipt.entry_id, receipt.entry_id)
        return _letter(receipt, found[0][1]) if found else None

    async def drop(self, receipt: Receipt) -> bool:
        """Forget a dead letter for good; say whether there was one."""
        keys, partition, entry_id = self._keys, receipt.partition, receipt.entry_id
        with queue_request("dead_drop"):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xdel(keys.dead(partition), entry_id)
                pipe.hdel(keys.claims(partition), entry_id)
                pipe.srem(keys.superseded(partition), entry_id)
                removed, _, _ = await pipe.execute()
        return bool(removed)

    async def replay(self, receipt: Receipt, *, force: bool = False) -> Receipt | None:
        """Push the job of a dead letter again, behind all that waits; return its new receipt.

        Raises `Superseded` when newer jobs of the same points have been applied since, unless ``force``. Should such
        a job be waiting now, the replay becomes a dead letter again when its turn comes.
        """
        keys, partition = self._keys, receipt.partition
        job_id = keys.drain_job_id(partition)
        with queue_request("replay"):
            entry_id = await scripts.run(
                self._redis,
                "replay",
                [
                    *(keys.dead(partition), keys.stream(partition), keys.backlog, keys.drain_queue),
                    *(keys.arq_job(job_id), keys.claims(partition), keys.superseded(partition), keys.drain_bell),
                ],
                [receipt.entry_id, job_id, doorbell(partition), DOORBELL_LIFE_MS, int(force)],
            )
        return Receipt(partition, entry_id.decode()) if entry_id else None


def _letter(receipt: Receipt, fields: dict[bytes, Any]) -> DeadLetter:
    def text(name: bytes) -> str:
        return str(fields.get(name, b"").decode(errors="replace"))

    return DeadLetter(
        receipt=receipt,
        reason=text(b"reason"),
        detail=text(b"detail"),
        op=text(b"op"),
        user_id=text(b"user_id"),
        died_s=int(fields.get(b"at", b"0")) / 1000,
        version=entry_version(fields.get(b"v", b"")),
        body=fields.get(b"j", b""),
    )
