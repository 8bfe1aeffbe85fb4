"""Read jobs: search, get, info. Each is an arq job that returns its result; errors come back as values.

An error is never an empty result: a caller can tell "nothing found" from "could not look".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from arq.connections import ArqRedis

from memory_worker import metrics
from memory_worker.contract import Get, Info, Limits, ReadError, ReadJob, Reply, Search, checked, convert_read
from memory_worker.errors import InvalidJob, StoreRefused, StoreUnavailable
from memory_worker.join import Joiner
from memory_worker.logs import log_event
from memory_worker.queue.calls import Sending, check_reply_to, encode_reply, send_replies
from memory_worker.queue.clock import RedisClock
from memory_worker.queue.keys import Keys
from memory_worker.store.store import VectorStore

logger = logging.getLogger(__name__)

READ_JOBS: tuple[type[ReadJob], ...] = (Search, Get, Info)
_LEAST_TIME_S = 0.001
_MOST_REPLIES = 32


class Reads:
    """Answers read jobs from one store."""

    def __init__(self, redis: ArqRedis, keys: Keys, store: VectorStore, limits: Limits, clock: RedisClock) -> None:
        self._keys = keys
        self._store = store
        self._limits = limits
        self._clock = clock

        async def send(replies: list[Sending]) -> list[None]:
            await send_replies(redis, keys, replies)
            return [None] * len(replies)

        self._replies = Joiner[Sending, None](send, most=_MOST_REPLIES)

    def function(self, kind_of_job: type[ReadJob]) -> Callable[..., Awaitable[Reply | None]]:
        """Return the arq function for one kind of read job.

        It takes the job as a map, the key of a list for the reply, and whether the reply is to be JSON instead of
        MessagePack. Without such a key the reply is the job's result.
        """

        async def answer(
            ctx: dict[str, Any], document: Any, reply_to: str | None = None, reply_json: bool = False
        ) -> Reply | None:
            reply = await self.answer(kind_of_job, document, pushed_ms=ctx["score"])
            if reply_to is None:
                return reply
            check_reply_to(self._keys, reply_to)
            await self._replies.do(Sending(ctx["job_id"], reply_to, encode_reply(reply, as_json=reply_json)))
            return None

        return answer

    async def answer(self, kind_of_job: type[ReadJob], document: Any, *, pushed_ms: float) -> Reply:
        """Return the reply to a job that was pushed at ``pushed_ms`` by Redis's clock; never raises for a job."""
        op = str(kind_of_job.__struct_config__.tag)
        metrics.READ_QUEUE.labels(op).observe(self._since_s(pushed_ms))
        reply = await self._reply(kind_of_job, document, pushed_ms)
        metrics.READS.labels(op, reply.error.code if reply.error else "ok").inc()
        metrics.READ_DURATION.labels(op).observe(self._since_s(pushed_ms))
        if reply.engine_ms:
            metrics.READ_ENGINE.labels(op).observe(reply.engine_ms / 1000)
        return reply

    def _since_s(self, pushed_ms: float) -> float:
        return max(0.0, (self._clock.now_ms() - pushed_ms) / 1000)

    async def _reply(self, kind_of_job: type[ReadJob], document: Any, pushed_ms: float) -> Reply:
        try:
            job = checked(convert_read(document, kind_of_job), self._limits)
        except InvalidJob as error:
            return _error("invalid", error)
        remaining_s = (pushed_ms + job.timeout_ms - self._clock.now_ms()) / 1000
        if remaining_s < _LEAST_TIME_S:
            return _error("timeout", f"the job waited longer than its {job.timeout_ms} ms")
        try:
            async with asyncio.timeout(remaining_s):
                return await self._read(job, remaining_s)
        except Exception as error:  # noqa: BLE001  # a read must answer whatever happens; the caller waits
            return _failed(job, error)

    async def _read(self, job: ReadJob, timeout_s: float) -> Reply:
        match job:
            case Search():
                hits, engine_ms = await self._store.search(job, timeout_s=timeout_s)
                return Reply(ok=True, hits=hits, engine_ms=engine_ms)
            case Get():
                points, engine_ms = await self._store.get(job, timeout_s=timeout_s)
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
