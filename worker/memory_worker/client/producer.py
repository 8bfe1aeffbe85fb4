"""The producer pushes jobs and makes read calls. It remembers the limits of the queue and the clock of Redis.

A request may take several steps: waiting for a connection, connecting, reading the limits, sending, sending again. In
all of them together it waits for Redis no longer than its caller allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from memory_worker.client.connections import Connections, ConnectionSource
from memory_worker.contract import (
    JobState,
    Limits,
    Outcome,
    QueueReport,
    ReadJob,
    Receipt,
    Reply,
    WriteJob,
    checked,
    encode_write,
    normalize_job,
    partition_of,
    version_of,
)
from memory_worker.contract.building import map_jobs, to_write_jobs
from memory_worker.contract.errors import (
    InvalidJob,
    PartitionMismatch,
    PushedInPart,
    QueueError,
    ReadFailed,
    TooLate,
)
from memory_worker.wire.applied import job_states, wait_applied
from memory_worker.wire.call import call
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import Deadline
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.outcomes import read_outcomes
from memory_worker.wire.push import new_token, push
from memory_worker.wire.stats import read_report

PUSH_MAX_JOBS = 256
PUSH_MAX_BYTES = 1_048_576
_META_FRESH_S = 5.0
"""Up to this age, the limits are not read again before a job is refused."""
_META_MAX_AGE_S = 60.0
"""From this age on, the limits are read again before any check, because the workers' settings may have changed."""
_CLOCK_SLACK_MS = 1000
_MIN_TIME_S = 0.001

_Checked = TypeVar("_Checked")


class _Request(Deadline):
    """One request of a caller. Its steps run inside ``async with``, and share one time limit for waiting on Redis.

    The time between the steps does not count.
    """

    def __init__(self, connections: Connections, timeout_s: float) -> None:
        super().__init__(connections.redis, timeout_s)
        self.connections = connections
        self.redis = connections.redis


class Producer:
    """The producer of one process. ``source`` has its connections. It is as safe for concurrent use as they are."""

    def __init__(self, source: ConnectionSource, keys: Keys, *, timeout_s: float) -> None:
        self.clock = RedisClock()
        self.open = source.open
        self.close = source.close
        self._keys = keys
        self._timeout_s = timeout_s
        self._meta = QueueMeta()
        self._meta_read_at = float("-inf")

    async def push(self, given: Iterable[WriteJob]) -> list[Receipt]:
        """Push jobs in order, in chunks. Each chunk is stored as a whole. Return the receipts.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first chunks were stored.
        """
        request = _Request(self.open(), self._timeout_s)
        jobs = map_jobs(normalize_job, to_write_jobs(given))
        bodies = await self._with_limits(request, lambda limits: map_jobs(partial(encode_write, limits=limits), jobs))
        receipts: list[Receipt] = []
        for first, last in _chunks(bodies):
            try:
                receipts += await self._push(request, jobs[first:last], bodies[first:last])
            except (QueueError, InvalidJob, PartitionMismatch) as error:
                if not receipts:
                    raise
                raise PushedInPart(receipts, len(jobs)) from error
            request = _Request(request.connections, self._timeout_s)
        return receipts

    async def wait_applied(self, receipt: Receipt, *, timeout_s: float) -> None:
        """Wait until the job of ``receipt`` has been applied, as `memory_worker.wire.applied.wait_applied` does."""
        await wait_applied(self.open().blocking, self._keys, receipt, timeout_s=timeout_s)

    async def states(self, receipts: Sequence[Receipt]) -> list[JobState]:
        """Return the states of jobs, as `memory_worker.wire.applied.job_states` does."""
        request = _Request(self.open(), self._timeout_s)
        async with request:
            return await job_states(request.redis, self._keys, receipts)

    async def outcomes(self, *, after: str, count: int, timeout_s: float) -> list[Outcome]:
        """Return outcomes, as `memory_worker.wire.outcomes.read_outcomes` does."""
        redis = self.open().blocking
        return await read_outcomes(
            redis, self._keys, after=after, count=count, timeout_s=timeout_s, patience_s=self._timeout_s
        )

    async def report(self) -> QueueReport | None:
        """Return the state of the queue as `read_report` does."""
        request = _Request(self.open(), self._timeout_s)
        async with request:
            return await read_report(request.redis, self._keys)

    async def call(self, job: ReadJob) -> Reply:
        """Enqueue a read job and return its reply. If it has ``after``, first wait until that job has been applied.

        Raises `InvalidJob`, `QueueFull`, `QueueUnavailable` if Redis does not answer, or `ReadFailed` if no worker
        answers or the reply is an error. While waiting it raises as `wait_applied`.
        """
        normalized = normalize_job(job)
        request = _Request(self.open(), normalized.timeout_ms / 1000)
        job = await self._with_limits(request, lambda limits: checked(normalized, limits))
        after = getattr(job, "after", None)
        if after is not None:
            request = await self._wait_within(request, Receipt.parse(after))
        reply = await call(request.connections.blocking, self._keys, job, request)
        if reply is None:
            raise ReadFailed("timeout", f"no worker answered within {normalized.timeout_ms} ms")
        if reply.error is not None:
            raise ReadFailed(reply.error.code, reply.error.message)
        return reply

    async def _wait_within(self, request: _Request, receipt: Receipt) -> _Request:
        """Wait until the job of ``receipt`` has been applied. Return a request for the rest of the time."""
        timeout_s = max(_MIN_TIME_S, request.remaining_s)
        began = time.monotonic()
        await self.wait_applied(receipt, timeout_s=timeout_s)
        left_s = timeout_s - (time.monotonic() - began)
        if left_s < _MIN_TIME_S:
            raise ReadFailed("timeout", f"no time was left when job {receipt} had been applied")
        return _Request(request.connections, left_s)

    async def _with_limits(self, request: _Request, check: Callable[[Limits], _Checked]) -> _Checked:
        """Return the result of ``check`` for the limits that workers have published.

        If it raises `InvalidJob`, read the limits again and check once more: they may have changed.
        """
        max_age_s = _META_MAX_AGE_S if self._meta.limits.has_dimensions else _META_FRESH_S
        if self._meta_age_s() >= max_age_s:
            await self._refresh(request)
        try:
            return check(self._meta.limits)
        except InvalidJob:
            if self._meta_age_s() < _META_FRESH_S:
                raise
        await self._refresh(request)
        return check(self._meta.limits)

    async def _push(self, request: _Request, jobs: Sequence[WriteJob], bodies: Sequence[bytes]) -> list[Receipt]:
        token, began = new_token(), time.monotonic()
        try:
            return await self._push_once(request, token, jobs, bodies)
        except InvalidJob:  # the workers now allow only smaller jobs, so read the limits before the next check
            self._meta_read_at = float("-inf")
            raise
        except (PartitionMismatch, TooLate):  # nothing was stored: the partitions changed, or a clock was set
            await self._refresh(request, since=began)
            return await self._push_once(request, token, jobs, bodies)

    async def _push_once(
        self, request: _Request, token: str, jobs: Sequence[WriteJob], bodies: Sequence[bytes]
    ) -> list[Receipt]:
        meta, remaining_ms = self._meta, request.remaining_s * 1000
        entries = [(partition_of(job.user_id, meta.partitions), body) for job, body in zip(jobs, bodies, strict=True)]
        async with request:
            return await push(
                request.redis,
                self._keys,
                meta.partitions,
                entries,
                token=token,
                deadline_ms=self.clock.earliest_ms() + remaining_ms,
                life_ms=int(remaining_ms) + _CLOCK_SLACK_MS,
                version=[version_of(job, meta.limits) for job in jobs],
                users=[job.user_id for job in jobs],
                min_replicas=meta.min_replicas,
            )

    async def _refresh(self, request: _Request, *, since: float | None = None) -> None:
        """Read the limits and Redis's clock, unless another request has done so since the monotonic time ``since``.

        The default for ``since`` is now.
        """
        asked = time.monotonic() if since is None else since
        async with request:
            await request.connections.refreshing.acquire()
            try:
                if self._meta_read_at >= asked:
                    return
                # If Redis has lost the limits, a worker publishes them again. Until then the old ones are used.
                self._meta = await read_meta(request.redis, self._keys) or self._meta
                await self.clock.refresh(request.redis)
                self._meta_read_at = time.monotonic()
            finally:
                request.connections.refreshing.release()

    def _meta_age_s(self) -> float:
        return time.monotonic() - self._meta_read_at


def _chunks(bodies: Sequence[bytes]) -> Iterable[tuple[int, int]]:
    """Yield the bounds of chunks of at most ``PUSH_MAX_JOBS`` jobs and ``PUSH_MAX_BYTES`` bytes, or of one job."""
    first = size = 0
    for position, body in enumerate(bodies):
        if position > first and (position - first == PUSH_MAX_JOBS or size + len(body) > PUSH_MAX_BYTES):
            yield first, position
            first, size = position, 0
        size += len(body)
    if first < len(bodies):
        yield first, len(bodies)
