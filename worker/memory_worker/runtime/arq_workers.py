"""arq workers that block on a wakeup list instead of polling, and that no malformed job can stop.

`DrainWorker` claims many drain jobs in one round trip, with arq's own in-progress keys. `ReadWorker` takes many read
jobs in one round trip and answers each. Those of our clients come with the command that waits for them. Reads are not
persisted. If the worker dies, the caller retries.

A wakeup is lost if the worker that received it dies, and a job that is due later sends none. So a worker also polls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import msgspec
from arq.jobs import serialize_result
from arq.utils import timestamp_ms
from arq.worker import Worker, func
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from memory_worker.contract.errors import QueueError
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.failpoints import failpoint
from memory_worker.queue.drain_jobs import (
    ClaimedGroup,
    OpenOptions,
    WakeAfter,
    claim_partitions,
    finish_partitions,
)
from memory_worker.queue.read_jobs import TakenReadJob, result_key, stop_taking, take_read_jobs, wait_for_calls
from memory_worker.telemetry.logs import log_event
from memory_worker.tracing import processing
from memory_worker.wire.arq_records import TRACE, decode_arq, encode_arq, is_json, is_pickled
from memory_worker.wire.connection import queue_request
from memory_worker.wire.drain_job import DRAIN
from memory_worker.wire.keys import Keys, ReadQueue
from memory_worker.wire.overflow import all_partitions

if TYPE_CHECKING:
    from arq.connections import ArqRedis

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL_S = 5.0
_CLAIM_LIFE_S = 610.0
"""Longer than any drain. The drain of a dead process ends with its lease, and its claim with the next rescue."""
_MOST_SMALL, _SMALL_SHARE, _SMALL_S = 2, 0.25, 0.05
"""So many small batches are in flight at once, for this time. Meanwhile further writes become one batch, which costs
less. A batch that takes longer does not hold up others, because they may go to a collection that is faster."""
_SHORTEST_POLL = 0.75
"""The shortest poll interval, as a fraction of the longest."""
_FAILURE_LIFE_S = 60.0
"""How long arq's result of a failed read job is kept."""
_MAX_TRIES = 2**31
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999

Drain: TypeAlias = Callable[[ClaimedGroup], Awaitable[Mapping[int, WakeAfter]]]
"""Drains partitions. Returns when to wake a worker again, for each whose drain job has not been finished."""


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
        for job_id, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[job_id]
                task.result()
        if not self.burst:
            await self._take_or_wait()
        if self.burst:
            await self._stop_taking()
        await self.heart_beat()
        self._on_poll()

    async def _take_or_wait(self) -> None:
        # Not at fixed times, or the same worker might always be the first one to find a held partition due.
        poll_s = self._poll_s * random.uniform(_SHORTEST_POLL, 1.0)
        if free := self._free():
            await self._take(free, poll_s)
        else:
            await asyncio.wait(self.tasks.values(), timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)

    def _free(self) -> int:
        """Return how many more jobs may run now. If none, at least one is running."""
        return self.max_jobs - len(self.tasks)

    async def _take(self, free: int, poll_s: float) -> None:
        """Wait for a wakeup, at most for ``poll_s`` seconds. Start up to ``free`` jobs of the queue as ``tasks``."""
        raise NotImplementedError

    async def _stop_taking(self) -> None:
        """Do what is needed once this worker takes no more jobs."""

    def _record_moved(self, jobs: int) -> None:
        """Record that jobs were moved from this queue to the queue of writes."""
        if jobs:
            log_event(logger, logging.ERROR, "foreign_jobs_moved", queue=self.queue_name, jobs=jobs)

    async def heart_beat(self) -> None:
        """Write arq's health check. A full Redis is no reason to stop."""
        with suppress(OutOfMemoryError):
            await super().heart_beat()


class DrainWorker(RoleWorker):
    """Drains partitions whose drain jobs are due.

    Each of its ``tasks`` drains a group of partitions, which were claimed together because their waiting entries fit
    into one batch of ``batch_jobs``. If more entries arrive during the drain, the partitions are claimed again.
    ``opening`` says how to open partitions when they are claimed, if at all.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        drain: Drain,
        opening: Callable[[], OpenOptions | None],
        *,
        partitions: int,
        batch_jobs: int,
        **options: Any,
    ) -> None:
        # arq requires a function, but never calls it.
        super().__init__(redis, keys, {DRAIN: drain}, queue_name=keys.drain_queue, wakeup=keys.drain_wakeup, **options)
        self._drain = drain
        self._opening = opening
        self._partitions = partitions
        self._batch_jobs = batch_jobs
        # The drain jobs that other workers have claimed are at the head of the queue. Look past all of them.
        self._scan_limit = max(2 * len(all_partitions(partitions)), 1000)
        self._small: dict[asyncio.Task[None], float] = {}  # when each was started, as a monotonic time

    def _free(self) -> int:
        since = time.monotonic() - _SMALL_S
        return super()._free() if sum(started > since for started in self._small.values()) < _MOST_SMALL else 0

    async def _take(self, free: int, poll_s: float) -> None:
        failpoint("before_read")
        groups, moved = await claim_partitions(
            self.pool,
            self._keys,
            self._partitions,
            max_groups=free,
            batch_jobs=self._batch_jobs,
            scan_limit=self._scan_limit,
            life_s=_CLAIM_LIFE_S,
            opening=self._opening(),
            behind=("BLPOP", self._wakeup, poll_s),
        )
        if any(group.opened for group in groups):
            failpoint("read")
        self._record_moved(moved)
        for group in groups:
            # The first partition identifies the group, because no other group can claim it now.
            task = asyncio.create_task(self._run_group(group))
            self.tasks[self._keys.drain_job_id(group.partitions[0])] = task
            if self._is_small(group):
                self._small[task] = time.monotonic()
                task.add_done_callback(self._small.pop)

    def _is_small(self, group: ClaimedGroup) -> bool:
        """Return whether the whole group has been read, and is a small batch."""
        entries = sum(len(head.entries) for _, head in group.opened if head is not None)
        return len(group.opened) == len(group.partitions) and entries < _SMALL_SHARE * self._batch_jobs

    async def _run_group(self, group: ClaimedGroup) -> None:
        unfinished: Mapping[int, WakeAfter] = dict.fromkeys(group.partitions, 0.0)
        try:
            unfinished = await self._drain(group)
        finally:
            self.jobs_complete += len(group.partitions)
            if unfinished:
                await asyncio.shield(self._finish(unfinished))

    async def _finish(self, wake_after_s: Mapping[int, WakeAfter]) -> None:
        try:
            await finish_partitions(self.pool, self._keys, wake_after_s)
        except QueueError as error:
            # The rescue finds the drain jobs that stay in progress, and wakes a worker for them.
            log_event(logger, logging.WARNING, "wake_failed", partitions=list(wake_after_s), error=str(error))


class ReadWorker(RoleWorker):
    """Answers the read jobs of ``queue``. The functions send the replies. If one raises, the error is arq's result.

    While it waits, it takes jobs from the list of calls. It looks into arq's queue after a wakeup and at every poll,
    before it takes further calls. So neither kind of jobs can use up all of its concurrency.

    A graceful stop does not cancel the command that waits. The calls that it still takes are answered.
    """

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
        self._numbers = count()
        self._wakeup_first = False
        self._take_at = 0.0  # when to look into arq's queue again, as a monotonic time

    async def _take(self, free: int, poll_s: float) -> None:
        if time.monotonic() >= self._take_at:
            await self._take_from_queue(free)
            return
        self._wakeup_first = not self._wakeup_first
        calls = await wait_for_calls(
            self.pool, self._queue, max_jobs=free, timeout_s=poll_s, wakeup_first=self._wakeup_first
        )
        self._start(calls)
        if not calls:
            self._take_at = 0.0

    async def _take_from_queue(self, free: int) -> None:
        jobs, moved = await take_read_jobs(self.pool, self._keys, self._queue, max_jobs=free)
        self._take_at = time.monotonic() + self._poll_s
        self._record_moved(moved)
        self._start(jobs)

    def _start(self, jobs: Sequence[TakenReadJob]) -> None:
        for job in jobs:
            self.tasks[str(next(self._numbers))] = asyncio.create_task(self._serve(job))

    async def _stop_taking(self) -> None:
        with suppress(QueueError):
            await stop_taking(self.pool, self._queue)

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
            if call.in_queue:
                await self._store_failure(call, as_result(error, success=False))

    async def _call(self, call: TakenReadJob, record: dict[str, Any], as_result: Callable[[Any], bytes]) -> None:
        function = self.functions.get(record["f"])
        if function is None:
            hint = f": push writes to {self._keys.writes_queue!r}" if record["f"] in WRITE_OPS else ""
            raise QueueError(f"there is no read job {record['f']!r}{hint}")
        ctx = {"call": call, "as_result": as_result}
        with processing(self._keys.prefix, [str(record.get(TRACE, ""))], operation=record["f"]):
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
