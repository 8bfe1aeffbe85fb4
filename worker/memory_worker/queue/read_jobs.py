"""The worker's side of read jobs: take them from their queue, and send their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import MAX_TIMEOUT_MS, Reply
from memory_worker.contract.errors import QueueError
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

REPLY_MARGIN_MS = 2000
"""How long a reply is kept after its caller's deadline."""
LARGE_REPLY_BYTES = 16_384
"""From here on replies that nobody has taken yet are counted."""
MOST_LARGE_REPLIES = 4096
"""Of at least `LARGE_REPLY_BYTES`; of more where more bytes are allowed."""
_TAKEN_MS = MAX_TIMEOUT_MS + 5000
"""How long a job that was taken is left in the queue, should its taker die; nobody waits for it any longer."""

_reply_encoder = msgspec.msgpack.Encoder()


class TakenCall(msgspec.Struct, frozen=True):
    """A read job that is ours now, due since ``due_ms`` (unix milliseconds by Redis's clock), as arq wrote it."""

    job_id: bytes
    due_ms: float
    body: bytes


async def take_calls(redis: Redis, keys: Keys, *, most: int) -> list[TakenCall]:
    """Take read jobs that are due, oldest first; nobody else gets them. One round trip; raises `QueueUnavailable`."""
    with queue_request("take"):
        flat = await scripts.run(
            redis, "take", [keys.search_queue, keys.search_wakeup], [most, keys.arq_job(""), _TAKEN_MS]
        )
    rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [TakenCall(job_id, float(due_ms), body) for job_id, due_ms, body in rows]


def encode_reply(reply: Reply, *, as_json: bool = False) -> bytes:
    """Return a reply as MessagePack or JSON."""
    return msgspec.json.encode(reply) if as_json else _reply_encoder.encode(reply)


def result_key(job_id: bytes) -> bytes:
    """Return arq's key of a job's result."""
    return b"arq:result:" + job_id


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


async def send_replies(redis: Redis, keys: Keys, replies: Sequence[Sending], *, most_bytes: int) -> int:
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
