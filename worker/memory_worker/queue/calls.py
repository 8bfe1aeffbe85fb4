"""Read jobs: enqueued as arq jobs on a queue of their own, answered on a list of the caller's.

The caller waits with one blocking call instead of polling for arq's result.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from arq.connections import ArqRedis

from memory_worker.contract import MAX_TIMEOUT_MS, ReadJob, Reply
from memory_worker.errors import QueueError
from memory_worker.queue import scripts
from memory_worker.queue.codec import encode_arq
from memory_worker.queue.connection import LATE_REPLY_S, Deadline, queue_errors, queue_request
from memory_worker.queue.keys import Keys

REPLY_LIFE_S = 60
_JOB_GRACE_MS = 1000
_TAKEN_MS = MAX_TIMEOUT_MS + 5000
"""How long a job that was taken is left in the queue, should its taker die; nobody waits for it any longer."""

_reply_encoder = msgspec.msgpack.Encoder()
_reply_decoder = msgspec.msgpack.Decoder(Reply)


async def enqueue_call(redis: ArqRedis, keys: Keys, job: ReadJob) -> str:
    """Enqueue a read job whose reply goes to a list; return the key of that list. One round trip.

    Raises `QueueFull` when too many read jobs wait already, `QueueUnavailable`.
    """
    tag = type(job).__struct_config__.tag
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

    Raises `QueueUnavailable`, soon after that when Redis hangs or no connection becomes free.
    """
    async with Deadline(redis, timeout_s + LATE_REPLY_S):
        with queue_errors():
            found = await redis.execute_command("BLPOP", reply_to, timeout_s)  # type: ignore[no-untyped-call]
    if found is None:
        return None
    try:
        return _reply_decoder.decode(found[1])
    except msgspec.DecodeError as error:
        raise QueueError(f"a reply that cannot be read: {error}") from error


def encode_reply(reply: Reply, *, as_json: bool = False) -> bytes:
    """Return a reply as MessagePack or JSON."""
    return msgspec.json.encode(reply) if as_json else _reply_encoder.encode(reply)


def check_reply_to(keys: Keys, reply_to: str) -> None:
    """Raise `QueueError` for a key that is not of a list of replies: a caller chose it."""
    if not reply_to.startswith(keys.reply("")):
        raise QueueError(f"a reply may only go to a key that begins with {keys.reply('')!r}")


class Sending(NamedTuple):
    """The encoded reply to one read job, and the list that it goes to."""

    job_id: bytes
    reply_to: str
    body: bytes


async def send_replies(redis: ArqRedis, keys: Keys, replies: Sequence[Sending]) -> None:
    """Push replies to their callers' lists, which expire when nobody takes them; in one round trip."""
    args: list[Any] = [REPLY_LIFE_S * 1000]
    for sending in replies:
        args += [sending.job_id, sending.body]
    with queue_request("reply"):
        await scripts.run(redis, "reply", [keys.search_queue, *(sending.reply_to for sending in replies)], args)
