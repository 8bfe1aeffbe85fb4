"""Read the outcomes of jobs, which workers write."""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import Redis

from memory_worker.contract import Outcome, Receipt
from memory_worker.wire.connection import LATE_REPLY_S, Deadline, queue_errors
from memory_worker.wire.keys import Keys

FIRST = "0-0"
"""The id before all outcomes."""


async def read_outcomes(
    redis: Redis, keys: Keys, *, after: str, count: int, timeout_s: float, patience_s: float
) -> list[Outcome]:
    """Return up to ``count`` outcomes behind the id ``after``, oldest first.

    If there are none yet, wait for one for ``timeout_s`` seconds. The first one has ``gap`` if the outcome ``after`` is
    no longer there, so that those behind it may be lost, too. Raises `QueueUnavailable`, also if there is no reply
    within ``patience_s`` seconds after this time.
    """
    block_ms = int(timeout_s * 1000) or None
    async with Deadline(redis, timeout_s + patience_s + LATE_REPLY_S):
        with queue_errors():
            async with redis.pipeline(transaction=False) as pipe:
                pipe.xread({keys.outcomes: after}, count=count, block=block_ms)
                pipe.xrange(keys.outcomes, after, after)
                streams, last_read = await pipe.execute()
    entries = streams[0][1] if streams else []
    gap = after != FIRST and not last_read
    return [_outcome(entry_id, fields, gap=gap and at == 0) for at, (entry_id, fields) in enumerate(entries)]


def _outcome(entry_id: bytes, fields: dict[bytes, bytes], *, gap: bool) -> Outcome:
    text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    user_id, replay = text["user_id"], text["replay"]
    return Outcome(
        id=entry_id.decode(),
        receipt=Receipt.parse(text["receipt"]),
        position=text["position"],
        outcome=cast("Any", text["outcome"]),
        at=int(text["at"]),
        op=text["op"] or None,
        user_id=int(user_id) if user_id.isdecimal() else user_id or None,
        kind=text["kind"] or None,
        namespace=text["namespace"] or None,
        reason=text["reason"],
        detail=text["detail"],
        ref=text["ref"] or None,
        replay=Receipt.parse(replay) if replay else None,
        gap=gap,
    )
