"""Records why a partition is held: its head is a job that this worker cannot apply, but another worker can."""

from __future__ import annotations

from typing import NamedTuple

from redis.asyncio import Redis

from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class Held(NamedTuple):
    """An entry that a worker leaves to others, and what they need for it, such as ``kind 'note'``."""

    entry_id: str
    needs: str


async def record_held(redis: Redis, keys: Keys, partition: int, held: Held) -> None:
    """Record why a partition is held, for `partition_states`. The record counts only while the entry is the head."""
    with queue_request("held"):
        await redis.execute_command("HSET", keys.held, partition, f"{held.entry_id} {held.needs}")


def needs_of(record: bytes | None, head_id: str) -> str | None:
    """Return what the head of a partition needs, or ``None`` if the record is about another entry."""
    entry_id, _, needs = (record or b"").decode(errors="replace").partition(" ")
    return needs if entry_id == head_id and needs else None
