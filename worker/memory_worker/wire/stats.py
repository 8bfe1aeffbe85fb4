"""Read the state of the queue that workers publish."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import QueueReport
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

_decoder = msgspec.json.Decoder(QueueReport)


async def read_report(redis: Redis, keys: Keys) -> QueueReport | None:
    """Return the latest state of the queue, or ``None`` if no worker has published it for some seconds.

    Raises `QueueUnavailable`.
    """
    with queue_request("read_stats"):
        found = await redis.execute_command("GET", keys.stats)
    try:
        return _decoder.decode(found) if found else None
    except (msgspec.DecodeError, RecursionError):  # not published by a worker of this version
        return None
