"""Find out whether the job of a receipt has been applied, or wait until it is."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.contract.errors import DeadLettered, NotApplied, UnknownReceipt
from memory_worker.wire.connection import LATE_REPLY_S, Deadline, queue_errors
from memory_worker.wire.keys import Keys


async def wait_applied(redis: Redis, keys: Keys, receipt: Receipt, *, timeout_s: float) -> None:
    """Wait until the job of ``receipt`` has been applied. This takes one blocking command and does not poll.

    Raises `NotApplied` after ``timeout_s`` seconds, `DeadLettered` if the job can never be applied, `UnknownReceipt`
    if Redis has lost data since the push, or `QueueUnavailable`. The connection must allow replies to take that long.
    """
    give_up = time.monotonic() + timeout_s
    async with Deadline(redis, timeout_s + LATE_REPLY_S):
        if await _is_applied(redis, keys, receipt):
            return
        remaining_ms = max(1, int((give_up - time.monotonic()) * 1000))
        if await _is_applied(redis, keys, receipt, block_ms=remaining_ms):
            return
    raise NotApplied(f"job {receipt} was not applied within {timeout_s:g} s; it is still queued")


async def check_applied(redis: Redis, keys: Keys, receipt: Receipt) -> None:
    """Return if the job of ``receipt`` has been applied; otherwise raise as `wait_applied`, but without waiting."""
    if not await _is_applied(redis, keys, receipt):
        raise NotApplied(f"job {receipt} has not been applied yet; it is still queued")


async def _is_applied(redis: Redis, keys: Keys, receipt: Receipt, *, block_ms: int | None = None) -> bool:
    """Return whether the job has been applied, or is applied within ``block_ms`` milliseconds."""
    partition, entry_id = receipt.partition, receipt.entry_id
    with queue_errors():
        async with redis.pipeline(transaction=False) as pipe:
            # The id of the mark is that of the last entry that left the stream. This may be a later entry than ours.
            pipe.xread({keys.applied(partition): _id_before(entry_id)}, count=1, block=block_ms)
            pipe.hmget(keys.since, ["epoch", str(partition)])
            pipe.xrange(keys.dead(partition), entry_id, entry_id)
            mark, since, dead = await pipe.execute()
    if dead:
        fields = dead[0][1]
        raise DeadLettered(str(receipt), fields[b"reason"].decode(), fields[b"detail"].decode())
    if not _is_known(entry_id, *since):
        raise UnknownReceipt(f"Redis has lost data since job {receipt} was pushed, so its state is unknown")
    return bool(mark)


def _is_known(entry_id: str, epoch: bytes | None, stream_since: bytes | None) -> bool:
    """Return whether Redis has lost no data of the partition since the entry was pushed."""
    pushed_ms = int(entry_id.partition("-")[0])
    return epoch is not None and pushed_ms >= max(int(epoch), int(stream_since or 0))


def _id_before(entry_id: str) -> str:
    milliseconds, sequence = map(int, entry_id.split("-"))
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}"
