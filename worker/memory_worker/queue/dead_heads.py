"""Dead letters without their jobs, page by page: a million of them are looked through in little memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.queue.log import entry_version, replay_of
from memory_worker.queue.replay_guard import Position
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

_PAGE = 200


class DeadHead(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter: its receipt, why and when (unix seconds) it died, and the ``size`` of its job in bytes.

    ``position`` is where the job stands in the order in which jobs were first pushed: a job that was replayed and died
    again keeps it. Replay letters in that order.
    """

    receipt: Receipt
    position: Position
    reason: str
    detail: str
    op: str
    user_id: str
    died_s: float
    version: int
    size: int


async def dead_heads(
    redis: Redis, keys: Keys, partition: int, *, first: str = "-", last: str = "+"
) -> AsyncIterator[DeadHead]:
    """Yield the dead letters of a partition, oldest first, from the id ``first`` to the id ``last``."""
    while True:
        with queue_request("dead_list"):
            page = await scripts.run(redis, "dead_page", [keys.dead(partition)], [first, last, _PAGE])
        for entry_id, fields in page:
            yield _head(Receipt(partition, entry_id.decode()), dict(zip(fields[::2], fields[1::2], strict=True)))
        if len(page) < _PAGE:
            return
        first = f"({page[-1][0].decode()}"


async def dead_head(redis: Redis, keys: Keys, receipt: Receipt) -> DeadHead | None:
    """Return the dead letter of ``receipt``, if there is one."""
    entry_id = receipt.entry_id
    async for head in dead_heads(redis, keys, receipt.partition, first=entry_id, last=entry_id):
        return head
    return None


def _head(receipt: Receipt, fields: dict[bytes, Any]) -> DeadHead:
    return DeadHead(size=int(fields.get(b"j", 0)), **described(receipt, fields))


def described(receipt: Receipt, fields: dict[bytes, Any]) -> dict[str, Any]:
    """Return what the fields of a dead letter say, but for its job."""

    def text(name: bytes) -> str:
        return str(fields.get(name, b"").decode(errors="replace"))

    return {
        "receipt": receipt,
        "position": replay_of(fields.get(b"r", b"")) or receipt.entry_id,
        "reason": text(b"reason"),
        "detail": text(b"detail"),
        "op": text(b"op"),
        "user_id": text(b"user_id"),
        "died_s": int(fields.get(b"at", b"0")) / 1000,
        "version": entry_version(fields.get(b"v", b"")),
    }
