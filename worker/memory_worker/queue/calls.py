"""Read jobs: enqueued as arq jobs on a queue of their own, answered on a list of the caller's.

The caller waits with one blocking call instead of polling for arq's result.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import msgspec
from arq.connections import ArqRedis
from arq.constants import result_key_prefix

from memory_worker.contract import MAX_TIMEOUT_MS, ReadJob, Reply, op_of
from memory_worker.errors import QueueError
from memory_worker.queue import scripts
from memory_worker.queue.codec import encode_arq
from memory_worker.queue.connection import LATE_REPLY_S, Deadline, queue_errors, queue_request
from memory_worker.queue.keys import Keys

REPLY_MARGIN_MS = 2000
"""How long a reply is kept after its caller's deadline."""
LARGE_REPLY_BYTES = 16_384
"""From here on replies that nobody has taken yet are counted."""
MOST_LARGE_REPLIES = 4096
"""Of at least `LARGE_REPLY_BYTES`; of more where more bytes are allowed."""
_CANCEL_S = 0.25
_JOB_GRACE_MS = 1000
_TAKEN_MS = MAX_TIMEOUT_MS + 5000
"""How long a job that was taken is left in the queue, should its taker die; nobody waits for it any longer."""

_reply_encoder = msgspec.msgpack.Encoder()
_reply_decoder = msgspec.msgpack.Decoder(Reply)


async def enqueue_call(redis: ArqRedis, keys: Keys, job: ReadJob) -> str:
    """Enqueue a read job whose reply goes to a list; return the key of that list. One round trip.

    Raises `QueueFull` when too many read jobs wait already, `QueueUnavailable`.
    """
    tag = op_of(job)
    job_id = f"{keys.prefix}:{tag}:{secrets.token_hex(12)}"
    reply_to = keys.reply(job_id)
    record: dict[str, Any] = {"t": None, "f": tag, "a": (job,), "k": {"reply_to": reply_to}}
    body = encode_arq({**record, "et": int(time.time() * 1000)})
    with queue_request("call"):
        await scripts.run(
            redis,
            "call",
            [keys.search_queue, keys.arq_job(job_id), keys.meta, keys.search_bell],
            [job_id, body, job.timeout_ms + _JOB_GRACE_MS],
        )
    return reply_to


class TakenCall(msgspec.Struct, frozen=True):
    """A read job that is ours now, due since ``due_ms`` (unix milliseconds by Redis's clock), as arq wrote it."""

    job_id: bytes
    due_ms: float
    body: bytes


async def take_calls(redis: ArqRedis, keys: Keys, *, most: int) -> list[TakenCall]:
    """Take read jobs that are due, oldest first; nobody else gets them. One round trip; raises `QueueUnavailable`."""
    with queue_request("take"):
        flat = await scripts.run(
            redis, "take", [keys.search_queue, keys.search_bell], [most, keys.arq_job(""), _TAKEN_MS]
        )
    rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [TakenCall(job_id, float(due_ms), body) for job_id, due_ms, body in rows]


async def take_reply(redis: ArqRedis, reply_to: str, *, timeout_s: float) -> Reply | None:
    """Wait for the reply; ``None`` when it does not come within ``timeout_s`` seconds.

    Raises `QueueUnavailable`, soon after that when Redis hangs or no connection becomes free. When it is cancelled it
    takes the job back, if Redis answers at once.
    """
    try:
        async with Deadline(redis, timeout_s + LATE_REPLY_S):
            with queue_errors():
                found = await redis.execute_command("BLPOP", reply_to, timeout_s)  # type: ignore[no-untyped-call]
    except asyncio.CancelledError:
        await _cancel(redis, reply_to)
        raise
    if found is None:
        return None
    try:
        return _reply_decoder.decode(found[1])
    except msgspec.DecodeError as error:
        raise QueueError(f"a reply that cannot be read: {error}") from error


async def _cancel(redis: ArqRedis, reply_to: str) -> None:
    prefix, _, job_id = reply_to.partition(":reply:")
    keys = Keys(prefix)
    # The job expires anyway, and so does its reply.
    with suppress(QueueError, TimeoutError):
        async with asyncio.timeout(_CANCEL_S):
            with queue_request("cancel"):
                await scripts.run(redis, "cancel", [keys.search_queue, keys.arq_job(job_id), reply_to], [job_id])


def encode_reply(reply: Reply, *, as_json: bool = False) -> bytes:
    """Return a reply as MessagePack or JSON."""
    return msgspec.json.encode(reply) if as_json else _reply_encoder.encode(reply)


def result_key(job_id: bytes) -> bytes:
    """Return arq's key of a job's result."""
    return result_key_prefix.encode() + job_id


def check_reply_to(keys: Keys, reply_to: str) -> None:
    """Raise `QueueError` for a key that is not of a list of replies: a caller chose it."""
    if not reply_to.startswith(keys.reply("")):
        raise QueueError(f"a reply may only go to a key that begins with {keys.reply('')!r}")


class Sending(NamedTuple):
    """The encoded reply to one read job, and the list that it goes to; or, ``is_result``, the key of arq's result.

    It is kept for ``life_ms``. ``instead`` is sent if it is large and too much of that kind waits already.
    """

    job_id: bytes
    key: str | bytes
    body: bytes
    life_ms: int
    instead: bytes = b""
    is_result: bool = False


async def send_replies(redis: ArqRedis, keys: Keys, replies: Sequence[Sending], *, most_bytes: int) -> int:
    """Send replies to those callers that still wait, in one round trip; raises `QueueUnavailable`.

    Large replies that nobody has taken hold at most ``most_bytes`` together. Return for how many there was no room.
    """
    large_bytes = max(LARGE_REPLY_BYTES, most_bytes // MOST_LARGE_REPLIES)
    args: list[Any] = [most_bytes, large_bytes, MAX_TIMEOUT_MS + REPLY_MARGIN_MS]
    for sending in replies:
        where = "result" if sending.is_result else "list"
        args += [sending.job_id, sending.life_ms, where, sending.body, sending.instead]
    own_keys = [keys.search_queue, keys.replies, keys.replies_bytes]
    script_keys = cast("list[str]", [*own_keys, *(sending.key for sending in replies)])  # ids of arq's may be no text
    with queue_request("reply"):
        return int(await scripts.run(redis, "reply", script_keys, args))
