"""arq workers that block on a wakeup list instead of polling, and that no malformed job can stop.

`DrainWorker` claims many drain jobs in one round trip, with arq's own in-progress keys. `ReadWorker` takes many read
jobs in one round trip and answers each. Reads are not persisted. If the worker dies, the caller retries.

A wakeup is lost if the worker that received it dies, and a job that is due later sends none. So a worker also polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeAlias

import msgspec
from arq.jobs import serialize_result
from arq.utils import timestamp_ms
from arq.worker import Worker
from redis.exceptions import OutOfMemoryError

from memory_worker.contract.errors import QueueError
from memory_worker.queue.drain_jobs import WakeAfter, claim_partitions, finish_partitions
from memory_worker.queue.read_jobs import TakenReadJob, result_key, take_read_jobs
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.connection import queue_errors, queue_request
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

NEVER = 2**31
"""Tries after which arq would give a job up: what to do with a job is not for arq to decide."""
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999


Drain: TypeAlias = Callable[[Sequence[int]], Awaitable[Mapping[int, WakeAfter]]]
"""Drains partitions; returns for each when to ring again (``None``: somebody else will)."""


class RoleWorker(Worker):
    """An arq worker that looks for jobs when its ``wakeup`` list receives an item, and every ``poll_s`` seconds.

    It calls ``polled`` after each look. arq takes about six round trips to claim and to finish a job; here each takes
    one. The main loop, the shutdown and the health check are arq's.
    """

    def __init__(self, wakeup: str, polled: Callable[[], None], keys: Keys, *, poll_s: float, **options: Any) -> None:
        super().__init__(**options, poll_delay=0, max_tries=NEVER, job_deserializer=decode_job)
        self._wakeup = wakeup
        self._polled = polled
        self._keys = keys
        self._poll_s = poll_s

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
        self._polled()

    async def _take(self, most: int) -> None:
        """Take up to so many jobs off the queue, and begin each as one of ``tasks``."""
        raise NotImplementedError

    async def heart_beat(self) -> None:
        """Tell arq's tools that this worker lives; a Redis that has no room for that is no reason to end."""
        with suppress(OutOfMemoryError):
            await super().heart_beat()

    async def _wait(self) -> None:
        """Wait for a wakeup. At the limit of concurrent jobs, wait for one of them to end instead."""
        if self.burst:
            return
        running = [task for task in self.tasks.values() if not task.done()]
        if len(running) < self.max_jobs:
            with queue_errors():
                await self.pool.execute_command("BLPOP", self._wakeup, self._poll_s)  # type: ignore[no-untyped-call]
        else:
            await asyncio.wait(running, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)


class DrainWorker(RoleWorker):
    """Drains partitions whose doorbell has rung.

    A job of arq's is a group of partitions, claimed together because what waits in all of them makes one batch of
    ``most_jobs``. Of what comes meanwhile no more than a batch is drained with them; the rest is claimed again, by
    what it is then.
    """

    def __init__(
        self,
        wakeup: str,
        polled: Callable[[], None],
        keys: Keys,
        drain: Drain,
        *,
        partitions: int,
        most_jobs: int,
        **options: Any,
    ) -> None:
        super().__init__(wakeup, polled, keys, **options)
        self._drain = drain
        self._most_jobs = most_jobs
        # What other workers have claimed stands at the head of the queue: look past all of it.
        self._look_at = max(2 * partitions, 1000)

    async def _take(self, most: int) -> None:
        groups, removed = await claim_partitions(
            self.pool,
            self._keys,
            max_groups=most,
            batch_jobs=self._most_jobs,
            scan_limit=self._look_at,
            life_s=self.in_progress_timeout_s,
        )
        if removed:
            log_event(logger, logging.ERROR, "foreign_jobs_removed", queue=self.queue_name, jobs=removed)
        for group in groups:
            # Named by its first partition, which nobody else can claim meanwhile.
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
    """Answers read jobs. Their functions send the replies; what one raises is left where arq leaves results."""

    async def _take(self, most: int) -> None:
        for call in await take_read_jobs(self.pool, self._keys, max_jobs=most):
            self.tasks[_shown(call.job_id)] = asyncio.create_task(self._serve(call))

    async def _serve(self, call: TakenReadJob) -> None:
        started_ms = timestamp_ms()
        record: dict[str, Any] = {"f": "unknown", "et": 0}

        def as_result(outcome: Any, *, success: bool = True) -> bytes:
            return self._as_result(call, record, outcome, success=success, started_ms=started_ms)

        try:
            record.update(decode_job(call.body))
            await self._call(call, record, as_result)
            self.jobs_complete += 1
        except Exception as error:  # noqa: BLE001  # as arq: whatever a job raises is its result
            self.jobs_failed += 1
            log_event(logger, logging.ERROR, "read_job_failed", job=_shown(call.job_id)[:100], error=str(error)[:200])
            await self._keep(call, as_result(error, success=False))

    async def _call(self, call: TakenReadJob, record: dict[str, Any], as_result: Callable[[Any], bytes]) -> None:
        function = self.functions.get(record["f"])
        if function is None:
            raise QueueError(f"there is no read job {record['f']!r}")
        ctx = {"job_id": call.job_id, "score": call.due_ms, "as_result": as_result}
        await function.coroutine(ctx, *record["a"], **record["k"])

    def _as_result(
        self, call: TakenReadJob, record: dict[str, Any], outcome: Any, *, success: bool, started_ms: int
    ) -> bytes:
        """Encode what a job returned or raised, as arq does."""
        job_id = _shown(call.job_id)
        body = serialize_result(
            record["f"], (), {}, 1, record["et"], success, outcome, started_ms, timestamp_ms(), job_id,
            self.queue_name, job_id, serializer=self.job_serializer,
        )  # fmt: skip
        return body or b""

    async def _keep(self, call: TakenReadJob, failure: bytes) -> None:
        try:
            with queue_request("result"):
                async with self.pool.pipeline(transaction=True) as pipe:
                    pipe.psetex(result_key(call.job_id), int(self.keep_result_s * 1000), failure)
                    pipe.zrem(self.queue_name, call.job_id)
                    await pipe.execute()
        except QueueError as error:
            log_event(logger, logging.WARNING, "read_result_lost", error=str(error))


def _shown(job_id: bytes) -> str:
    return job_id.decode(errors="backslashreplace")


class _JobRecord(msgspec.Struct):
    """A job as arq writes it: what it takes on trust, and ends at once if it is otherwise."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: Annotated[int, msgspec.Meta(ge=0, lt=NEVER)] | None
    et: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)]


def decode_job(body: bytes) -> dict[str, Any]:
    """Decode a job of arq's; raises ``msgspec.MsgspecError`` for one that would end arq's worker."""
    try:
        record = decode_arq(body)
        msgspec.convert(record, _JobRecord)
    except msgspec.MsgspecError as error:
        raise msgspec.DecodeError(f"unable to deserialize job: {error}") from error
    return record
