"""arq workers that block on a wakeup list instead of polling, and that no malformed job can stop.

`DrainWorker` claims many drain jobs in one round trip, with arq's own in-progress keys. `ReadWorker` takes many read
jobs in one round trip and answers each. Reads are not persisted. If the worker dies, the caller retries.

A wakeup is lost if the worker that received it dies, and a job that is due later sends none. So a worker also polls.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import msgspec
from arq.jobs import serialize_result
from arq.utils import timestamp_ms
from arq.worker import Worker, func
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from memory_worker.contract.errors import QueueError
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.queue.drain_jobs import WakeAfter, claim_partitions, finish_partitions
from memory_worker.queue.read_jobs import TakenReadJob, result_key, take_read_jobs
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.arq_records import decode_arq, encode_arq, is_json, is_pickled
from memory_worker.wire.connection import queue_errors, queue_request
from memory_worker.wire.drain_job import DRAIN
from memory_worker.wire.keys import Keys, ReadQueue

if TYPE_CHECKING:
    from arq.connections import ArqRedis

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL_S = 5.0
_CLAIM_LIFE_S = 610.0
"""Longer than any drain. The drain of a dead process ends with its lease, and its claim with the next rescue."""
_SHORTEST_POLL = 0.75
"""The shortest poll interval, as a fraction of the longest."""
_FAILURE_LIFE_S = 60.0
"""How long arq's result of a failed read job is kept."""
_MAX_TRIES = 2**31
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999

Drain: TypeAlias = Callable[[Sequence[int]], Awaitable[Mapping[int, WakeAfter]]]
"""Drains partitions. Returns for each when to wake a worker again."""


class RoleWorker(Worker):
    """An arq worker that looks for jobs when its ``wakeup`` list receives an item, and every ``poll_s`` seconds.

    It calls ``on_poll`` each time. arq takes about six round trips to claim and to finish a job; here each takes one.
    Only the main loop, the shutdown and the health check are arq's.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        functions: Mapping[str, Callable[..., Awaitable[Any]]],
        *,
        queue_name: str,
        wakeup: str,
        max_jobs: int,
        poll_s: float,
        on_poll: Callable[[], None],
    ) -> None:
        super().__init__(
            [func(function, name=name) for name, function in functions.items()],  # type: ignore[arg-type]
            queue_name=queue_name,
            redis_pool=cast("ArqRedis", redis),  # the methods of ArqRedis are not used
            max_jobs=max_jobs,
            poll_delay=0,
            handle_signals=False,
            health_check_interval=_HEALTH_INTERVAL_S,
        )
        self._keys = keys
        self._wakeup = wakeup
        self._poll_s = poll_s
        self._on_poll = on_poll

    async def _poll_iteration(self) -> None:
        await self._wait()
        for job_id, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[job_id]
                task.result()
        free = self.max_jobs - len(self.tasks)
        if free and not self.burst:
            await self._take(free)
        await self.heart_beat()
        self._on_poll()

    async def _take(self, free: int) -> None:
        """Take up to ``free`` jobs from the queue, and start each as one of ``tasks``."""
        raise NotImplementedError

    def _record_moved(self, jobs: int) -> None:
        """Record that jobs were moved from this queue to the queue of writes."""
        if jobs:
            log_event(logger, logging.ERROR, "foreign_jobs_moved", queue=self.queue_name, jobs=jobs)

    async def heart_beat(self) -> None:
        """Write arq's health check. A full Redis is no reason to stop."""
        with suppress(OutOfMemoryError):
            await super().heart_beat()

    async def _wait(self) -> None:
        """Wait for a wakeup. At the limit of concurrent jobs, wait for one of them to end instead."""
        if self.burst:
            return
        running = [task for task in self.tasks.values() if not task.done()]
        if len(running) < self.max_jobs:
            # Not at fixed times, or the same worker might always be the first one to find a held partition due.
            poll_s = self._poll_s * random.uniform(_SHORTEST_POLL, 1.0)
            with queue_errors():
                await self.pool.execute_command("BLPOP", self._wakeup, poll_s)  # type: ignore[no-untyped-call]
        else:
            await asyncio.wait(running, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)


class DrainWorker(RoleWorker):
    """Drains partitions whose drain jobs are due.

    Each of its ``tasks`` drains a group of partitions, which were claimed together because their waiting entries fit
    into one batch of ``batch_jobs``. If more entries arrive during the drain, the partitions are claimed again.
    """

    def __init__(
        self, redis: Redis, keys: Keys, drain: Drain, *, partitions: int, batch_jobs: int, **options: Any
    ) -> None:
        # arq requires a function, but never calls it.
        super().__init__(redis, keys, {DRAIN: drain}, queue_name=keys.drain_queue, wakeup=keys.drain_wakeup, **options)
        self._drain = drain
        self._batch_jobs = batch_jobs
        # The drain jobs that other workers have claimed are at the head of the queue. Look past all of them.
        self._scan_limit = max(2 * partitions, 1000)

    async def _take(self, free: int) -> None:
        groups, moved = await claim_partitions(
            self.pool,
            self._keys,
            max_groups=free,
            batch_jobs=self._batch_jobs,
            scan_limit=self._scan_limit,
            life_s=_CLAIM_LIFE_S,
        )
        self._record_moved(moved)
        for group in groups:
            # The first partition identifies the group, because no other group can claim it now.
            self.tasks[self._keys.drain_job_id(group[0])] = asyncio.create_task(self._run_group(group))

    async def _run_group(self, group: Sequence[int]) -> None:
        wake_after_s: Mapping[int, WakeAfter] = dict.fromkeys(group, 0.0)
        try:
            wake_after_s = await self._drain(group)
        finally:
            await asyncio.shield(self._finish(wake_after_s))

    async def _finish(self, wake_after_s: Mapping[int, WakeAfter]) -> None:
        self.jobs_complete += len(wake_after_s)
        try:
            await finish_partitions(self.pool, self._keys, wake_after_s)
        except QueueError as error:
            # The rescue finds the drain jobs that stay in progress, and wakes a worker for them.
            log_event(logger, logging.WARNING, "wake_failed", partitions=list(wake_after_s), error=str(error))


class ReadWorker(RoleWorker):
    """Answers the read jobs of ``queue``. The functions send the replies. If one raises, the error is arq's result."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        queue: ReadQueue,
        functions: Mapping[str, Callable[..., Awaitable[Any]]],
        **options: Any,
    ) -> None:
        super().__init__(redis, keys, functions, queue_name=queue.name, wakeup=queue.wakeup, **options)
        self._queue = queue

    async def _take(self, free: int) -> None:
        calls, moved = await take_read_jobs(self.pool, self._keys, self._queue, max_jobs=free)
        self._record_moved(moved)
        for call in calls:
            self.tasks[_text(call.job_id)] = asyncio.create_task(self._serve(call))

    async def _serve(self, call: TakenReadJob) -> None:
        started_ms = timestamp_ms()
        record: dict[str, Any] = {"f": "unknown", "et": 0}
        # The caller of a pickled job cannot read any result. An operator can read JSON.
        encode = partial(encode_arq, as_json=is_json(call.body) or is_pickled(call.body))

        def as_result(outcome: Any, *, success: bool = True) -> bytes:
            """Encode what a job returned or raised, in the encoding of the job."""
            job_id = _text(call.job_id)
            body = serialize_result(
                record["f"], (), {}, 1, record["et"], success, outcome, started_ms, timestamp_ms(), job_id,
                self.queue_name, job_id, serializer=encode,
            )  # fmt: skip
            return body or b""

        try:
            record.update(decode_job(call.body))
            await self._call(call, record, as_result)
            self.jobs_complete += 1
        except Exception as error:  # noqa: BLE001  # as in arq, any exception is the result of the job
            self.jobs_failed += 1
            log_event(logger, logging.ERROR, "read_job_failed", job=_text(call.job_id)[:100], error=str(error)[:200])
            await self._store_failure(call, as_result(error, success=False))

    async def _call(self, call: TakenReadJob, record: dict[str, Any], as_result: Callable[[Any], bytes]) -> None:
        function = self.functions.get(record["f"])
        if function is None:
            hint = f": push writes to {self._keys.writes_queue!r}" if record["f"] in WRITE_OPS else ""
            raise QueueError(f"there is no read job {record['f']!r}{hint}")
        ctx = {"job_id": call.job_id, "score": call.due_ms, "as_result": as_result}
        await function.coroutine(ctx, *record["a"], **record["k"])

    async def _store_failure(self, call: TakenReadJob, failure: bytes) -> None:
        try:
            with queue_request("result"):
                async with self.pool.pipeline(transaction=True) as pipe:
                    pipe.psetex(result_key(call.job_id), int(_FAILURE_LIFE_S * 1000), failure)
                    pipe.zrem(self.queue_name, call.job_id)
                    await pipe.execute()
        except QueueError as error:
            log_event(logger, logging.WARNING, "read_result_lost", error=str(error))


def _text(job_id: bytes) -> str:
    return job_id.decode(errors="backslashreplace")


class _JobRecord(msgspec.Struct):
    """A job as arq writes it."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: Annotated[int, msgspec.Meta(ge=0, lt=_MAX_TRIES)] | None
    et: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)]


def decode_job(body: bytes) -> dict[str, Any]:
    """Decode and check a job as arq writes it. Raises ``msgspec.MsgspecError``."""
    try:
        record = decode_arq(body)
        msgspec.convert(record, _JobRecord)
    except msgspec.MsgspecError as error:
        raise msgspec.DecodeError(f"unable to deserialize job: {error}") from error
    return record
