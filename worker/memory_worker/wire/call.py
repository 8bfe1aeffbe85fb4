"""Make a read call: enqueue a read job, and wait for its reply on a list that only this call uses.

The caller waits with one blocking command instead of polling for arq's result. That command is sent together with the
job, so the caller writes once and is idle until the reply comes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from memory_worker.contract import AdminJob, ReadJob, Reply, op_of
from memory_worker.contract.errors import QueueError
from memory_worker.tracing import sending, trace_context
from memory_worker.wire.arq_records import TRACE, encode_arq
from memory_worker.wire.connection import LATE_REPLY_S, Deadline, queue_errors, queue_request
from memory_worker.wire.exchange import Exchange
from memory_worker.wire.keys import Keys, admin_reads, user_reads
from memory_worker.wire.scripts import scripts

_CANCEL_TIMEOUT_S = 0.25
_JOB_GRACE_MS = 1000
_REPLY_MARGIN_S = 0.25
"""How long a caller waits beyond the timeout of its job, so that a reply of the last moment arrives."""

_reply_decoder = msgspec.msgpack.Decoder(Reply)


class Call:
    """A read job that is sent once, with the trace context of its caller, and the keys of its call.

    ``head`` is what call.lua has returned.
    """

    def __init__(self, keys: Keys, job: ReadJob, trace: str = "") -> None:
        op = op_of(job)
        self.queue = admin_reads(keys) if isinstance(job, AdminJob) else user_reads(keys)
        self.job_id = f"{keys.prefix}:{op}:{secrets.token_hex(12)}"
        self.reply_to = keys.reply(self.job_id)
        record: dict[str, Any] = {"t": None, "f": op, "a": (job,), "k": {"reply_to": self.reply_to}}
        if trace:
            record[TRACE] = trace
        self.body = encode_arq({**record, "et": int(time.time() * 1000)})
        self.life_ms = job.timeout_ms + _JOB_GRACE_MS
        self.head = b""
        self._arq_job, self._meta = keys.arq_job(self.job_id), keys.meta

    def enqueueing(self) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of call.lua."""
        queue = self.queue
        names = [queue.name, self._arq_job, self._meta, queue.wakeup, queue.calls, queue.taker, self.reply_to]
        return names, [self.job_id, self.body, self.life_ms]

    def cancelling(self) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of cancel.lua."""
        names = [self.queue.name, self._arq_job, self.reply_to, self.queue.calls]
        return names, [self.job_id, self.head + self.body, self.life_ms]


async def call(redis: Redis, keys: Keys, job: ReadJob, deadline: Deadline) -> Reply | None:
    """Enqueue a read job and return its reply. Return ``None`` if there is none when ``deadline`` has passed.

    The worker gets the time that is left when the job is sent. Raises `QueueFull` if too many read jobs are waiting,
    or `QueueUnavailable`: soon after the deadline if Redis hangs or no connection becomes free. When this call is
    cancelled, it removes the job from the queue, provided that Redis answers at once.
    """
    with sending(op_of(job), keys.prefix, kind="CLIENT"):
        return await _call(redis, keys, job, trace_context(), deadline)


async def _call(redis: Redis, keys: Keys, job: ReadJob, trace: str, deadline: Deadline) -> Reply | None:
    sent: Call | None = None
    try:
        async with Exchange(redis) as exchange:
            async with deadline:
                with queue_request("call"):
                    await exchange.open()
                    sent = Call(keys, _timed(job, deadline), trace)
                    await _send(exchange, sent, deadline)
            if sent.head:
                return await wait_for_reply(redis, sent.reply_to, timeout_s=_patience_s(deadline), exchange=exchange)
        async with deadline:
            await _enqueue(redis, sent)
        return await wait_for_reply(redis, sent.reply_to, timeout_s=_patience_s(deadline))
    except asyncio.CancelledError:
        if sent is not None:
            await _cancel(redis, sent)
        raise


async def _send(exchange: Exchange, sent: Call, deadline: Deadline) -> None:
    """Send a job, and with it the command that waits for its reply.

    The call gets no ``head`` if it must be sent again, because Redis has not loaded the script or the connection has
    ended.
    """
    wait = ("BLPOP", sent.reply_to, deadline.left_s + _REPLY_MARGIN_S)
    try:
        await exchange.send(scripts.command("call", *sent.enqueueing()), wait)
        sent.head = await exchange.read()
    except (NoScriptError, RedisConnectionError):
        pass
    except ResponseError as error:
        if str(error).startswith("QUEUEFULL"):
            with suppress(ResponseError):
                await exchange.read()  # call.lua lets the second command fail at once
        raise


def _patience_s(deadline: Deadline) -> float:
    return deadline.remaining_s + _REPLY_MARGIN_S


def _timed(job: ReadJob, deadline: Deadline) -> ReadJob:
    """Return a job with the time that is left, so that a worker skips it when its caller has given up."""
    return msgspec.structs.replace(job, timeout_ms=max(1, int(deadline.left_s * 1000)))


async def enqueue_call(redis: Redis, keys: Keys, job: ReadJob) -> Call:
    """Enqueue a read job in one round trip. Raises `QueueFull` or `QueueUnavailable`."""
    sent = Call(keys, job, trace_context())
    await _enqueue(redis, sent)
    return sent


async def _enqueue(redis: Redis, sent: Call) -> None:
    with queue_request("call"):
        sent.head = await scripts.run(redis, "call", *sent.enqueueing())


async def wait_for_reply(
    redis: Redis, reply_to: str, *, timeout_s: float, exchange: Exchange | None = None
) -> Reply | None:
    """Wait for a reply on the list ``reply_to``. Return ``None`` if none arrives within ``timeout_s`` seconds.

    With an ``exchange``, the command that waits was sent there. Raises `QueueUnavailable` soon after that time if Redis
    hangs or no connection becomes free.
    """
    async with Deadline(redis, timeout_s + LATE_REPLY_S) as deadline:
        with queue_errors():
            found = await _next_reply(redis, reply_to, deadline, exchange)
    if found is None:
        return None
    try:
        return _reply_decoder.decode(found[1])
    except msgspec.DecodeError as error:
        raise QueueError(f"the reply cannot be read: {error}") from error


async def _next_reply(redis: Redis, reply_to: str, deadline: Deadline, exchange: Exchange | None) -> Any:
    if exchange is not None:
        with suppress(RedisConnectionError):  # the connection ended, and the reply may come on another one
            return await exchange.read()
    return await redis.execute_command("BLPOP", reply_to, max(0.001, deadline.left_s - LATE_REPLY_S))


async def _cancel(redis: Redis, sent: Call) -> None:
    # If this fails, the job and its reply expire.
    with suppress(QueueError, TimeoutError):
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            with queue_request("cancel"):
                await scripts.run(redis, "cancel", *sent.cancelling())
