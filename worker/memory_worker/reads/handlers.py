"""Answer read jobs from the queue, in time and within memory limits.

An error is returned as a reply with an error code. It is never an empty result, so a caller can distinguish "nothing
found" from "the search failed".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.budget import ByteBudget, ReadMemoryLimits, Reservation
from memory_worker.coalesce import Coalescer
from memory_worker.contract import (
    MAX_TIMEOUT_MS,
    Info,
    Limits,
    ReadError,
    ReadJob,
    Receipt,
    Reply,
    checked,
    convert_read,
    op_of,
)
from memory_worker.contract.errors import InvalidJob
from memory_worker.queue.read_activity import ReadActivity
from memory_worker.queue.read_jobs import (
    LARGE_REPLY_BYTES,
    REPLY_MARGIN_MS,
    OutgoingReply,
    TakenReadJob,
    check_reply_to,
    encode_reply,
    result_key,
    send_replies,
)
from memory_worker.reads.answers import Answers
from memory_worker.reads.failures import read_error, too_large
from memory_worker.store.reader import Read
from memory_worker.store.store import VectorStore
from memory_worker.telemetry import metrics
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.applied import check_applied
from memory_worker.wire.arq_records import job_of_arguments
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys, ReadQueue, user_reads
from memory_worker.wire.stats import read_report

logger = logging.getLogger(__name__)

_MIN_TIME_S = 0.001
_MAX_REPLIES_AT_ONCE = 32
_DEFAULT_MEMORY_LIMITS = ReadMemoryLimits()
_DEFAULT_TIMEOUT_MS = Info().timeout_ms


class Reads:
    """Answers the read jobs of one queue from one store, within memory limits.

    A large answer waits until it has room in the budget, and keeps that room until its reply is in Redis. A reply that
    is too large, or for which Redis has no room, is replaced by an error.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        limits: Limits,
        clock: RedisClock,
        *,
        memory_limits: ReadMemoryLimits = _DEFAULT_MEMORY_LIMITS,
        queue: ReadQueue | None = None,
    ) -> None:
        queue = user_reads(keys) if queue is None else queue
        self._redis = redis
        self._keys = keys
        report = partial(read_report, redis, keys)
        self._answers = Answers(store, max_bytes=memory_limits.max_answer_bytes, queue_report=report)
        self._activity = ReadActivity(redis, keys)
        self._limits = limits
        self._clock = clock
        self._memory_limits = memory_limits
        self._budget = ByteBudget(memory_limits.budget_bytes)

        async def send(replies: list[OutgoingReply]) -> list[None]:
            refused = await send_replies(redis, keys, queue, replies, max_bytes=memory_limits.max_replies_bytes)
            if refused:
                log_event(logger, logging.WARNING, "replies_without_room", replies=refused)
            return [None] * len(replies)

        def send_separately(reply: OutgoingReply) -> str | bytes | None:
            """Return a key of its own for a reply that is large, or that Redis may refuse as an arq result."""
            return reply.key if reply.fallback or reply.is_result else None

        self._replies = Coalescer[OutgoingReply, None](send, max_items=_MAX_REPLIES_AT_ONCE, key=send_separately)

    def arq_functions(self, job_types: Iterable[type[ReadJob]]) -> dict[str, Callable[..., Awaitable[None]]]:
        """Return the arq functions for some types of read jobs, by their ops."""
        return {str(job.__struct_config__.tag): self.arq_function(job) for job in job_types}

    def arq_function(self, job_type: type[ReadJob]) -> Callable[..., Awaitable[None]]:
        """Return the arq function for one type of read job.

        Its arguments are the job as a map or as named arguments, the key of the list that gets the reply, and whether
        the reply is JSON instead of MessagePack. Without a key the reply is stored as the result of the arq job.
        """

        async def run(
            ctx: dict[str, Any], /, *args: Any, reply_to: str | None = None, reply_json: bool = False, **named: Any
        ) -> None:
            document = job_of_arguments(args, named)
            if reply_to is not None:
                check_reply_to(self._keys, reply_to)
            call: TakenReadJob = ctx["call"]
            pushed_ms, is_result = call.due_ms, reply_to is None
            encode = ctx["as_result"] if is_result else partial(encode_reply, as_json=reply_json)
            key = result_key(call.job_id) if reply_to is None else reply_to
            with self._budget.reservation() as reservation:
                # No variable refers to the reply itself, so that its memory is free once it is encoded.
                body, fallback = self._encode(
                    await self.answer(job_type, document, pushed_ms=pushed_ms, reservation=reservation), encode
                )
                reservation.shrink(len(body))
                life_ms = self._life_ms(document, pushed_ms)
                await self._replies.do(
                    OutgoingReply(call.job_id, key, body, life_ms, fallback, is_result, call.in_queue)
                )

        return run

    def _encode(self, reply: Reply, encode: Callable[[Reply], bytes]) -> tuple[bytes, bytes]:
        """Return the encoded reply and, if it is large, the fallback that is sent if Redis has no room for it."""
        body = encode(reply)
        if len(body) > self._memory_limits.max_answer_bytes:
            body = encode(_failed(too_large(len(body), self._memory_limits.max_answer_bytes)))
        return body, encode(_NO_ROOM) if len(body) >= LARGE_REPLY_BYTES else b""

    def _life_ms(self, document: Any, pushed_ms: float) -> int:
        """Return how long the caller can still use the reply. The job may be malformed."""
        timeout_ms = document.get("timeout_ms", _DEFAULT_TIMEOUT_MS) if isinstance(document, dict) else None
        if not isinstance(timeout_ms, int) or not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            timeout_ms = MAX_TIMEOUT_MS
        return int(max(0.0, pushed_ms + timeout_ms - self._clock.now_ms())) + REPLY_MARGIN_MS

    async def answer(
        self, job_type: type[ReadJob], document: Any, *, pushed_ms: float, reservation: Reservation | None = None
    ) -> Reply:
        """Return the reply to a job that was pushed at ``pushed_ms`` by Redis's clock. Failures become replies, too."""
        op = str(job_type.__struct_config__.tag)
        queue_ms = self._since_ms(pushed_ms)
        metrics.READ_QUEUE.labels(op).observe(queue_ms / 1000)
        self._activity.record()
        reply = await self._reply(job_type, document, pushed_ms, reservation)
        metrics.READS.labels(op, reply.error.code if reply.error else "ok").inc()
        if reply.engine_ms:
            metrics.READ_ENGINE.labels(op).observe(reply.engine_ms / 1000)
        total_ms = self._since_ms(pushed_ms)
        metrics.READ_DURATION.labels(op).observe(total_ms / 1000)
        return msgspec.structs.replace(reply, queue_ms=queue_ms, total_ms=total_ms)

    def _since_ms(self, pushed_ms: float) -> float:
        return max(0.0, self._clock.now_ms() - pushed_ms)

    async def _reply(
        self, job_type: type[ReadJob], document: Any, pushed_ms: float, reservation: Reservation | None
    ) -> Reply:
        try:
            job = checked(convert_read(document, job_type), self._limits)
        except InvalidJob as error:
            return _failed(ReadError(code="invalid", message=str(error)))
        remaining_s = (pushed_ms + job.timeout_ms - self._clock.now_ms()) / 1000
        if remaining_s < _MIN_TIME_S:
            late = f"the job waited longer than its {job.timeout_ms} ms"
            return _failed(ReadError(code="timeout", message=late))
        try:
            async with asyncio.timeout(remaining_s):
                return await self._read(job, Read(remaining_s, reservation))
        except Exception as error:  # noqa: BLE001  # the caller waits, so every error must become a reply
            max_bytes = self._memory_limits.max_answer_bytes
            return _failed(read_error(error, op_of(job), timeout_ms=job.timeout_ms, max_bytes=max_bytes))

    async def _read(self, job: ReadJob, read: Read) -> Reply:
        after = getattr(job, "after", None)
        if after is not None:
            await check_applied(self._redis, self._keys, Receipt.parse(after))
        reply = await self._answers.answer(job, read)
        return msgspec.structs.replace(reply, engine_ms=read.engine_ms)


def _failed(error: ReadError) -> Reply:
    return Reply(ok=False, error=error)


_NO_ROOM = _failed(
    ReadError(
        code="unavailable",
        message="no room for large replies in Redis, or those that wait have reached REPLIES_MAX_BYTES: "
        "try again, or ask for fewer points",
    )
)
