"""Make a read call: enqueue a read job, and wait for its reply on a list that only this call uses.

The caller waits with one blocking command instead of polling for arq's result.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import AdminJob, ReadJob, Reply, op_of
from memory_worker.contract.errors import QueueError
from memory_worker.wire.arq_records import encode_arq
from memory_worker.wire.connection import LATE_REPLY_S, Deadline, queue_errors, queue_request
from memory_worker.wire.keys import Keys, ReadQueue, admin_reads, user_reads
from memory_worker.wire.scripts import scripts

_CANCEL_TIMEOUT_S = 0.25
_JOB_GRACE_MS = 1000

_reply_decoder = msgspec.msgpack.Decoder(Reply)


def queue_of(keys: Keys, job: ReadJob) -> ReadQueue:
    """Return the queue of a read job."""
    return admin_reads(keys) if isinstance(job, AdminJob) else user_reads(keys)


async def enqueue_call(redis: Redis, keys: Keys, job: ReadJob) -> str:
    """Enqueue a read job in one round trip. Return the key of the list that will receive its reply.

    Raises `QueueFull` if too many read jobs are waiting, or `QueueUnavailable`.
    """
    op, queue = op_of(job), queue_of(keys, job)
    job_id = f"{keys.prefix}:{op}:{secrets.token_hex(12)}"
    reply_to = keys.reply(job_id)
    record: dict[str, Any] = {"t": None, "f": op, "a": (job,), "k": {"reply_to": reply_to}}
    body = encode_arq({**record, "et": int(time.time() * 1000)})
    with queue_request("call"):
        await scripts.run(
            redis,
            "call",
            [queue.name, keys.arq_job(job_id), keys.meta, queue.wakeup],
            [job_id, body, job.timeout_ms + _JOB_GRACE_MS],
        )
    return reply_to


async def wait_for_reply(redis: Redis, queue: ReadQueue, reply_to: str, *, timeout_s: float) -> Reply | None:
    """Wait for the reply to a job in ``queue``. Return ``None`` if none arrives within ``timeout_s`` seconds.

    Raises `QueueUnavailable` soon after that time if Redis hangs or no connection becomes free. When this call is
    cancelled, it removes the job from the queue, provided that Redis answers at once.
    """
    try:
        async with Deadline(redis, timeout_s + LATE_REPLY_S):
            with queue_errors():
                found = await redis.execute_command("BLPOP", reply_to, timeout_s)
    except asyncio.CancelledError:
        await _cancel(redis, queue, reply_to)
        raise
    if found is None:
        return None
    try:
        return _reply_decoder.decode(found[1])
    except msgspec.DecodeError as error:
        raise QueueError(f"the reply cannot be read: {error}") from error


async def _cancel(redis: Redis, queue: ReadQueue, reply_to: str) -> None:
    prefix, _, job_id = reply_to.partition(":reply:")
    keys = Keys(prefix)
    # If this fails, the job and its reply expire.
    with suppress(QueueError, TimeoutError):
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            with queue_request("cancel"):
                await scripts.run(redis, "cancel", [queue.name, keys.arq_job(job_id), reply_to], [job_id])
