"""Take read jobs from their queue, and send the replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import MAX_TIMEOUT_MS, Reply
from memory_worker.contract.errors import QueueError
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_errors, queue_request
from memory_worker.wire.keys import Keys, ReadQueue

REPLY_MARGIN_MS = 2000
"""How long a reply is kept after its caller's deadline."""
LARGE_REPLY_BYTES = 16_384
"""The size from which a reply counts as large. The sum of large replies that were not taken yet is limited."""
_MAX_LARGE_REPLIES = 4096
"""If more than this many large replies would fit into the limit, only larger ones are counted."""
_SHOWN_BYTES = 50
_TAKER_MS = 5000
"""How long clients push to the list of calls after a worker has looked into arq's queue."""
_TAKEN_MS = MAX_TIMEOUT_MS + 5000
"""How long a job stays in the queue after it was taken, if its worker dies. By then its caller has given up."""

_reply_encoder = msgspec.msgpack.Encoder()


class TakenReadJob(msgspec.Struct, frozen=True):
    """A read job that this worker has taken, as arq encoded it. It was due at ``due_ms`` (unix ms by Redis's clock).

    ``in_queue`` says whether it stays in arq's queue until it is answered. A job from the list of calls does not.
    """

    job_id: bytes
    due_ms: float
    body: bytes
    in_queue: bool = True


async def take_read_jobs(
    redis: Redis, keys: Keys, queue: ReadQueue, *, max_jobs: int
) -> tuple[list[TakenReadJob], int]:
    """Take read jobs that are due, oldest first, in one round trip. Return them, and how many writes were moved away.

    For the next seconds clients push their jobs to the list of calls, so call `wait_for_calls` soon. Raises
    `QueueUnavailable`.
    """
    names = [queue.name, queue.wakeup, keys.writes_queue, queue.taker]
    args = [max_jobs, keys.arq_job(""), _TAKEN_MS, _TAKER_MS, *WRITE_OPS]
    with queue_request("take"):
        moved, *flat = await scripts.run(redis, "take", names, args)
    rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [TakenReadJob(job_id, float(due_ms), body) for job_id, due_ms, body in rows], moved


async def wait_for_calls(
    redis: Redis, queue: ReadQueue, *, max_jobs: int, timeout_s: float, wakeup_first: bool
) -> list[TakenReadJob]:
    """Wait until jobs are in the list of calls, and take up to ``max_jobs`` of them, oldest first.

    Return none if a wakeup for arq's queue came, or after ``timeout_s`` seconds. If there is a wakeup and there are
    jobs, ``wakeup_first`` decides which is taken. Raises `QueueUnavailable`. If this is cancelled, jobs may be lost.
    """
    names = (queue.wakeup, queue.calls) if wakeup_first else (queue.calls, queue.wakeup)
    with queue_errors():
        found = await redis.execute_command("BLMPOP", timeout_s, 2, *names, "LEFT", "COUNT", max_jobs)
    if found is None or found[0] != queue.calls.encode():
        return []
    return [_call(item) for item in found[1]]


def _call(item: bytes) -> TakenReadJob:
    """Return the job in an item of the list of calls. It has no body if call.lua has not written the item."""
    try:
        pushed_ms, job_id, body = item.split(b" ", 2)
        return TakenReadJob(job_id, float(pushed_ms), body, in_queue=False)
    except ValueError:
        return TakenReadJob(item[:_SHOWN_BYTES], 0.0, b"", in_queue=False)


async def stop_taking(redis: Redis, queue: ReadQueue) -> None:
    """Let clients push their jobs to arq's queue, until another worker takes jobs from the list of calls.

    Raises `QueueUnavailable`.
    """
    with queue_request("stop"):
        await redis.delete(queue.taker)


def encode_reply(reply: Reply, *, as_json: bool = False) -> bytes:
    """Return a reply as MessagePack or JSON."""
    return msgspec.json.encode(reply) if as_json else _reply_encoder.encode(reply)


def result_key(job_id: bytes) -> bytes:
    """Return arq's key for the result of a job."""
    return b"arq:result:" + job_id


def check_reply_to(keys: Keys, reply_to: str) -> None:
    """Raise `QueueError` unless the key, which the caller chose, is that of a reply."""
    if not reply_to.startswith(keys.reply("")):
        raise QueueError(f"a reply may only go to a key that begins with {keys.reply('')!r}")


class OutgoingReply(NamedTuple):
    """The encoded reply to one read job, and the key of the list that it is pushed to.

    With ``is_result``, ``key`` is arq's key for the result. The reply expires after ``life_ms``. If it is large and
    there is no room for it, ``fallback`` is sent in its place. ``in_queue`` is that of the `TakenReadJob`.
    """

    job_id: bytes
    key: str | bytes
    body: bytes
    life_ms: int
    fallback: bytes = b""
    is_result: bool = False
    in_queue: bool = True


async def send_replies(
    redis: Redis, keys: Keys, queue: ReadQueue, replies: Sequence[OutgoingReply], *, max_bytes: int
) -> int:
    """Send replies to the callers in ``queue`` that still wait, in one round trip. Raises `QueueUnavailable`.

    All large replies that were not taken yet have at most ``max_bytes``. Return how many replies had no room.
    """
    large_bytes = max(LARGE_REPLY_BYTES, max_bytes // _MAX_LARGE_REPLIES)
    args: list[Any] = [max_bytes, large_bytes, MAX_TIMEOUT_MS + REPLY_MARGIN_MS]
    for reply in replies:
        where = "result" if reply.is_result else "list"
        args += [reply.job_id if reply.in_queue else b"", reply.life_ms, where, reply.body, reply.fallback]
    own_keys = [queue.name, keys.replies, keys.replies_bytes]
    script_keys = cast("list[str]", [*own_keys, *(reply.key for reply in replies)])  # arq's job ids may not be text
    with queue_request("reply"):
        return int(await scripts.run(redis, "reply", script_keys, args, alone=True))
