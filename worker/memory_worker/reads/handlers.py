"""Answer the read jobs search, get and info.

An error is returned as a reply with an error code. It is never an empty result, so a caller can distinguish "nothing
found" from "the search failed".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.asyncio import Redis

from memory_worker.budget import ByteBudget, ReadMemoryLimits, Reservation
from memory_worker.coalesce import Coalescer
from memory_worker.contract import (
    MAX_TIMEOUT_MS,
    Get,
    Info,
    Limits,
    ReadError,
    ReadJob,
    Reply,
    Search,
    checked,
    convert_read,
)
from memory_worker.contract.errors import AnswerTooLarge, InvalidJob, StoreRefused, StoreUnavailable
from memory_worker.queue.read_jobs import (
    LARGE_REPLY_BYTES,
    REPLY_MARGIN_MS,
    OutgoingReply,
    check_reply_to,
    encode_reply,
    result_key,
    send_replies,
)
from memory_worker.store.store import VectorStore
from memory_worker.telemetry import metrics
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys, user_reads

logger = logging.getLogger(__name__)

READ_JOBS: tuple[type[ReadJob], ...] = (Search, Get, Info)
_MIN_TIME_S = 0.001
_MAX_REPLIES_AT_ONCE = 32
_DEFAULT_MEMORY_LIMITS = ReadMemoryLimits()
_DEFAULT_TIMEOUT_MS = Info().timeout_ms


class Reads:
    """Answers read jobs from one store, within memory limits.

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
    ) -> None:
        self._keys = keys
        self._store = store
        self._limits = limits
        self._clock = clock
        self._memory_limits = memory_limits
        self._budget = ByteBudget(memory_limits.budget_bytes)

        async def send(replies: list[OutgoingReply]) -> list[None]:
            refused = await send_replies(
                redis, keys, user_reads(keys), replies, max_bytes=memory_limits.max_replies_bytes
            )
            if refused:
                log_event(logger, logging.WARNING, "replies_without_room", replies=refused)
            return [None] * len(replies)

        def send_separately(reply: OutgoingReply) -> bytes | None:
            """Return a key of its own for a reply that is large, or that Redis may refuse as an arq result."""
            return reply.job_id if reply.fallback or reply.is_result else None

        self._replies = Coalescer[OutgoingReply, None](send, max_items=_MAX_REPLIES_AT_ONCE, key=send_separately)

    def arq_function(self, job_type: type[ReadJob]) -> Callable[..., Awaitable[None]]:
        """Return the arq function for one type of read job.

        Its arguments are the job as a map, the key of the list that gets the reply, and whether the reply is JSON
        instead of MessagePack. Without a key the reply is stored as the result of the arq job.
        """

        async def run(
            ctx: dict[str, Any], document: Any, reply_to: str | None = None, reply_json: bool = False
        ) -> None:
            if reply_to is not None:
                check_reply_to(self._keys, reply_to)
            pushed_ms, is_result = ctx["score"], reply_to is None
            encode = ctx["as_result"] if is_result else partial(encode_reply, as_json=reply_json)
            key = result_key(ctx["job_id"]) if reply_to is None else reply_to
            with self._budget.reservation() as reservation:
                # No variable refers to the reply itself, so that its memory is free once it is encoded.
                body, fallback = self._encode(
                    await self.answer(job_type, document, pushed_ms=pushed_ms, reservation=reservation), encode
                )
                reservation.shrink(len(body))
                life_ms = self._life_ms(document, pushed_ms)
                await self._replies.do(OutgoingReply(ctx["job_id"], key, body, life_ms, fallback, is_result))

        return run

    def _encode(self, reply: Reply, encode: Callable[[Reply], bytes]) -> tuple[bytes, bytes]:
        """Return the encoded reply and, if it is large, the fallback that is sent if Redis has no room for it."""
        body = encode(reply)
        if len(body) > self._memory_limits.max_answer_bytes:
            body = encode(self._too_large(len(body)))
        return body, encode(_NO_ROOM) if len(body) >= LARGE_REPLY_BYTES else b""

    def _too_large(self, size: int) -> Reply:
        return _error(
            "too_large",
            f"the answer has {size:,} bytes, READ_MAX_BYTES allows {self._memory_limits.max_answer_bytes:,}: "
            "ask for fewer points",
        )

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
        metrics.READ_QUEUE.labels(op).observe(self._since_s(pushed_ms))
        reply = await self._reply(job_type, document, pushed_ms, reservation)
        metrics.READS.labels(op, reply.error.code if reply.error else "ok").inc()
        metrics.READ_DURATION.labels(op).observe(self._since_s(pushed_ms))
        if reply.engine_ms:
            metrics.READ_ENGINE.labels(op).observe(reply.engine_ms / 1000)
        return reply

    def _since_s(self, pushed_ms: float) -> float:
        return max(0.0, (self._clock.now_ms() - pushed_ms) / 1000)

    async def _reply(
        self, job_type: type[ReadJob], document: Any, pushed_ms: float, reservation: Reservation | None
    ) -> Reply:
        try:
            job = checked(convert_read(document, job_type), self._limits)
        except InvalidJob as error:
            return _error("invalid", error)
        remaining_s = (pushed_ms + job.timeout_ms - self._clock.now_ms()) / 1000
        if remaining_s < _MIN_TIME_S:
            return _error("timeout", f"the job waited longer than its {job.timeout_ms} ms")
        try:
            async with asyncio.timeout(remaining_s):
                return await self._read(job, remaining_s, reservation)
        except AnswerTooLarge as error:
            return self._too_large(error.answer_bytes)
        except Exception as error:  # noqa: BLE001  # the caller waits, so every error must become a reply
            return _failed(job, error)

    async def _read(self, job: ReadJob, timeout_s: float, reservation: Reservation | None) -> Reply:
        match job:
            case Search():
                hits, engine_ms = await self._store.search(job, timeout_s=timeout_s, reservation=reservation)
                return Reply(ok=True, hits=hits, engine_ms=engine_ms)
            case Get():
                points, engine_ms = await self._store.get(job, timeout_s=timeout_s, reservation=reservation)
                return Reply(ok=True, points=points, engine_ms=engine_ms)
            case Info():
                return Reply(ok=True, collections=await self._store.info())
            case _:
                raise TypeError(f"no handler for {type(job).__name__}")


def _failed(job: ReadJob, error: Exception) -> Reply:
    match error:
        case TimeoutError():
            return _error("timeout", f"no answer within {job.timeout_ms} ms")
        case StoreUnavailable(code="DEADLINE_EXCEEDED"):
            return _error("timeout", error)
        case StoreUnavailable():
            return _error("unavailable", error)
        case StoreRefused():
            return _error("invalid", error)
    log_event(logger, logging.ERROR, "read_failed", failure=error, op=type(job).__name__)
    return _error("internal", type(error).__name__)


def _error(code: str, problem: Exception | str) -> Reply:
    return Reply(ok=False, error=ReadError(code=code, message=str(problem)))


_NO_ROOM = _error(
    "unavailable",
    "no room for large replies in Redis, or those that wait have reached REPLIES_MAX_BYTES: "
    "try again, or ask for fewer points",
)
