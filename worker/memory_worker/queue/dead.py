"""Dead letters: entries that can never be applied, kept under their receipts until somebody replays or drops them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis

from memory_worker.contract import Receipt, decode_write
from memory_worker.contract.errors import InvalidJob, Superseded, Unguarded
from memory_worker.queue.dead_heads import DeadHead, described
from memory_worker.queue.guards import load_guards
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys

_PAGE = 100


class DeadLetter(DeadHead, frozen=True, kw_only=True):
    """A dead letter with its job as it was pushed."""

    body: bytes


class DeadLetters:
    """The dead letters of all partitions."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int) -> None:
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
                    yield _dead_letter(Receipt(partition, entry_id.decode()), fields)
                if len(page) < _PAGE:
                    break
                start = f"({page[-1][0].decode()}"

    async def get(self, receipt: Receipt) -> DeadLetter | None:
        """Return the dead letter of ``receipt``, if there is one."""
        with queue_request("dead_get"):
            found = await self._redis.xrange(self._keys.dead(receipt.partition), receipt.entry_id, receipt.entry_id)
        return _dead_letter(receipt, found[0][1]) if found else None

    async def drop(self, receipt: Receipt) -> bool:
        """Forget a dead letter for good; say whether there was one."""
        return await self.drop_many([receipt]) > 0

    async def drop_many(self, receipts: Sequence[Receipt]) -> int:
        """Forget dead letters for good; return how many there were."""
        by_partition: dict[int, list[str]] = {}
        for receipt in receipts:
            by_partition.setdefault(receipt.partition, []).append(receipt.entry_id)
        dropped = 0
        with queue_request("dead_drop"):
            for partition, ids in by_partition.items():
                keys = [self._keys.dead(partition), self._keys.backlog, self._keys.guarded(partition)]
                dropped += int(await scripts.run(self._redis, "drop", keys, list(ids)))
        return dropped

    async def replay(self, receipt: Receipt, *, force: bool = False) -> Receipt | None:
        """Push the job of a dead letter again, behind all that waits; return its new receipt.

        Unless ``force``, raises `Superseded` when newer jobs of the same points have been applied since, `Unguarded`
        when that is not known. Should such a job be waiting now, the replay becomes a dead letter again in its turn.
        """
        if not force:
            dead_letter = await self.get(receipt)
            if dead_letter is None:
                return None
            await self._check_replay(dead_letter)
        keys, partition = self._keys, receipt.partition
        job_id = keys.drain_job_id(partition)
        with queue_request("replay"):
            entry_id = await scripts.run(
                self._redis,
                "replay",
                [
                    *(keys.dead(partition), keys.stream(partition), keys.backlog, keys.drain_queue),
                    *(keys.arq_job(job_id), keys.drain_wakeup, keys.guarded(partition)),
                    keys.since,
                ],
                [receipt.entry_id, job_id, drain_job(partition), DRAIN_JOB_LIFE_MS, int(force), partition],
            )
        return Receipt(partition, entry_id.decode()) if entry_id else None

    async def _check_replay(self, dead_letter: DeadLetter) -> None:
        try:
            job = decode_write(dead_letter.body)
        except InvalidJob:
            raise Unguarded from None
        guards = await load_guards(
            self._redis, self._keys, dead_letter.receipt.partition, [(dead_letter.position, job)]
        )
        guard = guards.get(job.user_id)
        if guard is None or dead_letter.position not in guard.dead_letters:
            raise Unguarded
        if guard.is_stale(job, dead_letter.position):
            raise Superseded


def _dead_letter(receipt: Receipt, fields: dict[bytes, Any]) -> DeadLetter:
    body = fields.get(b"j", b"")
    return DeadLetter(size=len(body), body=body, **described(receipt, fields))
