"""Read jobs: search, get, info. Each is an arq job that returns its result; errors come back as values.

An error is never an empty result: a caller can tell "nothing found" from "could not look".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.asyncio import Redis

from memory_worker.budget import ByteBudget, Holding, ReadBounds
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
    Sending,
    check_reply_to,
    encode_reply,
    result_key,
    send_replies,
)
from memory_worker.store.store import VectorStore
from memory_worker.telemetry import metrics
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

READ_JOBS: tuple[type[ReadJob], ...] = (Search, Get, Info)
_LEAST_TIME_S = 0.001
_MOST_REPLIES = 32
_DEFAULT_BOUNDS = ReadBounds()
_DEFAULT_TIMEOUT_MS = Info().timeout_ms


class Reads:
    """Answers read jobs from one store.

    How much memory that takes is bounded: large answers wait until there is room for them, and room is held until the
    reply is in Redis. A reply that is too large, or has no room in Redis, is replaced by an error.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        limits: Limits,
        clock: RedisClock,
        *,
        bounds: ReadBounds = _DEFAULT_BOUNDS,
    ) -> None:
        self._keys = keys
        self._store = store
        self._limits = limits
        self._clock = clock
        self._bounds = bounds
        self._budget = ByteBudget(bounds.large_bytes)

        async def send(replies: list[Sending]) -> list[None]:
            refused = await send_replies(redis, keys, replies, most_bytes=bounds.replies_bytes)
            if refused:
                log_event(logger, logging.WARNING, "replies_without_room", replies=refused)
            return [None] * len(replies)

        def goes_alone(sending: Sending) -> bytes | None:
            """Large replies would be packed together; of arq's results there may be some that Redis does not take."""
            return sending.job_id if sending.instead or sending.is_result else None

        self._replies = Coalescer[Sending, None](send, most=_MOST_REPLIES, key=goes_alone)

    def function(self, kind_of_job: type[ReadJob]) -> Callable[..., Awaitable[None]]:
        """Return the arq function for one kind of read job.

        It takes the job as a map, the key of a list for the reply, and whether the reply is to be JSON instead of
        MessagePack. Without such a key the reply becomes the job's result, where arq keeps it.
        """

        async def answer(
            ctx: dict[str, Any], document: Any, reply_to: str | None = None, reply_json: bool = False
        ) -> None:
            if reply_to is not None:
                check_reply_to(self._keys, reply_to)
            pushed_ms, is_result = ctx["score"], reply_to is None
            encode = ctx["as_result"] if is_result else partial(encode_reply, as_json=reply_json)
            key = result_key(ctx["job_id"]) if reply_to is None else reply_to
            with self._budget.hold() as holding:
                # The reply itself is kept no longer than until it is encoded.
                body, instead = self._encoded(
                    await self.answer(kind_of_job, document, pushed_ms=pushed_ms, holding=holding), encode
                )
                holding.shrink(len(body))
                life_ms = self._life_ms(document, pushed_ms)
                await self._replies.do(Sending(ctx["job_id"], key, body, life_ms, instead, is_result))

        return answer

    def _encoded(self, reply: Reply, encode: Callable[[Reply], bytes]) -> tuple[bytes, bytes]:
        """Return the encoded reply and, if it is large, what is sent where there is no room for it."""
        body = encode(reply)
        if len(body) > self._bounds.most_bytes:
            body = encode(self._too_large(len(body)))
        return body, encode(_NO_ROOM) if len(body) >= LARGE_REPLY_BYTES else b""

    def _too_large(self, size: int) -> Reply:
        return _error(
            "too_large",
            f"the answer has {size:,} bytes, READ_MAX_BYTES allows {self._bounds.most_bytes:,}: ask for fewer points",
        )

    def _life_ms(self, document: Any, pushed_ms: float) -> int:
        """Return for how long the reply to a job, whatever it is, is of use to its caller."""
        timeout_ms = document.get("timeout_ms", _DEFAULT_TIMEOUT_MS) if isinstance(document, dict) else None
        if not isinstance(timeout_ms, int) or not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            timeout_ms = MAX_TIMEOUT_MS
        return int(max(0.0, pushed_ms + timeout_ms - self._clock.now_ms())) + REPLY_MARGIN_MS

    async def answer(
        self, kind_of_job: type[ReadJob], document: Any, *, pushed_ms: float, holding: Holding | None = None
    ) -> Reply:
        """Return the reply to a job that was pushed at ``pushed_ms`` by Redis's clock; never raises for a job."""
        op = str(kind_of_job.__struct_config__.tag)
        metrics.READ_QUEUE.labels(op).observe(self._since_s(pushed_ms))
        reply = await self._reply(kind_of_job, document, pushed_ms, holding)
        metrics.READS.labels(op, reply.error.code if reply.error else "ok").inc()
        metrics.READ_DURATION.labels(op).observe(self._since_s(pushed_ms))
        if reply.engine_ms:
            metrics.READ_ENGINE.labels(op).observe(reply.engine_ms / 1000)
        return reply

    def _since_s(self, pushed_ms: float) -> float:
        return max(0.0, (self._clock.now_ms() - pushed_ms) / 1000)

    async def _reply(
        self, kind_of_job: type[ReadJob], document: Any, pushed_ms: float, holding: Holding | None
    ) -> Reply:
        try:
            job = checked(convert_read(document, kind_of_job), self._limits)
        except InvalidJob as error:
            return _error("invalid", error)
        remaining_s = (pushed_ms + job.timeout_ms - self._clock.now_ms()) / 1000
        if remaining_s < _LEAST_TIME_S:
            return _error("timeout", f"the job waited longer than its {job.timeout_ms} ms")
        try:
            async with asyncio.timeout(remaining_s):
                return await self._read(job, remaining_s, holding)
        except AnswerTooLarge as error:
            return self._too_large(error.answer_bytes)
        except Exception as error:  # noqa: BLE001  # a read must answer whatever happens; the caller waits
            return _failed(job, error)

    async def _read(self, job: ReadJob, timeout_s: float, holding: Holding | None) -> Reply:
        match job:
            case Search():
                hits, engine_ms = await self._store.search(job, timeout_s=timeout_s, holding=holding)
                return Reply(ok=True, hits=hits, engine_ms=engine_ms)
            case Get():
                points, engine_ms = await self._store.get(job, timeout_s=timeout_s, holding=holding)
                return Reply(ok=True, points=points, engine_ms=engine_ms)
            case Info():
                return Reply(ok=True, collections=await self._store.info())


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
    "no room for large replies in Redis, or too many wait for REPLIES_MAX_BYTES: try again, or ask for fewer points",
)
