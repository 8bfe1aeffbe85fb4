"""Read whether the queue is paused. `memory_worker.queue.pausing` begins and ends a pause."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from redis.asyncio import Redis

from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

_FIELDS = ("since", "by", "reason")


class Pause(msgspec.Struct, frozen=True):
    """A pause: workers apply no writes, until an operator resumes the queue.

    ``since_s`` is its begin by Redis's clock, in unix seconds. ``by`` is who began it, ``reason`` why; both may be
    empty.
    """

    since_s: float
    by: str
    reason: str

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        by, reason = (self.by and f" by {self.by}"), (self.reason and f": {self.reason}")
        return f"paused since {since}{by}{reason}"


async def read_pause(redis: Redis, keys: Keys) -> Pause | None:
    """Return the pause that is in force, or ``None``. Raises `QueueUnavailable`."""
    with queue_request("read_pause"):
        found = await redis.execute_command("HMGET", keys.paused, *_FIELDS)
    return pause_of(found) if any(found) else None


def pause_of(fields: Sequence[bytes | None]) -> Pause:
    """Return the pause with these fields in Redis: since when (unix ms), by whom, and why."""
    since, by, reason = (field or b"" for field in fields)
    return Pause(
        int(since) / 1000 if since.isdigit() else 0.0, by.decode(errors="replace"), reason.decode(errors="replace")
    )
