"""A producer: pushes jobs and makes calls, by what it remembers of the queue's limits and of Redis's clock.

However many steps a request takes (waiting for a connection, connecting, looking at the limits, sending, sending
again), it waits for Redis no longer than its caller allows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from memory_worker.contract import (
    Limits,
    ReadJob,
    Receipt,
    Reply,
    WriteJob,
    checked,
    encode_plain,
    partition_of,
    plain_job,
)
from memory_worker.contract.building import each, write_jobs
from memory_worker.contract.errors import (
    ConfigurationError,
    InvalidJob,
    PartitionMismatch,
    PushedInPart,
    QueueError,
    ReadFailed,
    TooLate,
)
from memory_worker.wire.applied import wait_applied
from memory_worker.wire.call import enqueue_call, take_reply
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import Access, Deadline, belong_together, close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import new_token, push

PUSH_MAX_JOBS = 256
PUSH_MAX_BYTES = 1_048_576
MAX_CONNECTIONS = 200
_REPLY_MARGIN_S = 0.25
_META_AGE_S = 5.0
_META_LIFE_S = 60.0
"""Workers may have been given other limits since."""
_CLOCK_SLACK_MS = 1000

_Checked = TypeVar("_Checked")


class Connections:
    """The connections of one event loop: those whose replies come at once, and those that wait on purpose."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, access: Access, timeout_s: float, max_connections: int
    ) -> None:
        self.loop = loop
        self.looking = asyncio.Lock()
        quick = max(1, max_connections // 4)
        self.redis = open_redis(url, timeout_s=timeout_s, access=access, max_connections=quick)
        waiting = max_connections - quick
        self.blocking = open_redis(url, timeout_s=None, access=access, max_connections=waiting)
        belong_together(self.redis, self.blocking)

    async def close(self) -> None:
        """Close them all."""
        for redis in (self.redis, self.blocking):
            await close_redis(redis)


class _Request(Deadline):
    """One request of a caller: its connections, and how much longer it may wait for Redis (``async with``).

    What is computed between its steps does not count.
    """

    def __init__(self, connections: Connections, timeout_s: float) -> None:
        super().__init__(connections.redis, timeout_s)
        self.connections = connections
        self.redis = connections.redis


class Producer:
    """The queue, as one process pushes to it. Safe for concurrent use within an event loop.

    ``connections`` belong to the event loop that first used them; in another one new ones are opened.
    """

    def __init__(self, url: str, keys: Keys, *, timeout_s: float, access: Access, max_connections: int) -> None:
        if max_connections < 2:  # noqa: PLR2004  # one that sends, one that waits
            raise ConfigurationError(f"max_connections: must be at least 2, got {max_connections}")
        self.connections: Connections | None = None
        self.clock = RedisClock()
        self._url = url
        self._access = access
        self._keys = keys
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._meta = QueueMeta()
        self._meta_read_at = float("-inf")

    def open(self) -> Connections:
        """Return the connections of this event loop."""
        loop = asyncio.get_running_loop()
        if self.connections is None or self.connections.loop is not loop:
            self.connections = Connections(loop, self._url, self._access, self._timeout_s, self._max_connections)
        return self.connections

    async def close(self) -> None:
        """Close all connections; it may be used again afterwards."""
        connections, self.connections = self.connections, None
        if connections is not None and connections.loop is asyncio.get_running_loop():
            await connections.close()

    async def push(self, given: Iterable[WriteJob]) -> list[Receipt]:
        """Push jobs in order, in chunks that are each stored as a whole; return their receipts.

        Raises `InvalidJob` before anything is stored, `PushedInPart` when only the first of them could be stored.
        """
        request = _Request(self.open(), self._timeout_s)
        jobs = each(write_jobs(given), plain_job)
        bodies = await self._checked(request, lambda limits: each(jobs, partial(encode_plain, limits=limits)))
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
        """Return once the job of ``receipt`` is applied; raises as `JobLog.wait_applied`."""
        await wait_applied(self.open().blocking, self._keys, receipt, timeout_s=timeout_s)

    async def call(self, job: ReadJob) -> Reply:
        """Enqueue a read job and return its reply.

        Raises `InvalidJob`, `QueueFull`, `QueueUnavailable` when Redis does not answer, and `ReadFailed` when no worker
        does, or with an error.
        """
        plain = plain_job(job)
        request = _Request(self.open(), plain.timeout_ms / 1000)
        job = await self._checked(request, lambda limits: checked(plain, limits))
        # A worker need not begin with what nobody waits for any more.
        in_time = msgspec.structs.replace(job, timeout_ms=max(1, int(request.left_s * 1000)))
        async with request:
            reply_to = await enqueue_call(request.redis, self._keys, in_time)
        wait_s = request.left_s + _REPLY_MARGIN_S
        reply = await take_reply(request.connections.blocking, reply_to, timeout_s=wait_s)
        if reply is None:
            raise ReadFailed("timeout", f"no worker answered within {plain.timeout_ms} ms")
        if reply.error is not None:
            raise ReadFailed(reply.error.code, reply.error.message)
        return reply

    async def _checked(self, request: _Request, check: Callable[[Limits], _Checked]) -> _Checked:
        """Check against the limits that the workers have published; look at them again before refusing."""
        unknown = self._meta.limits.dimension is None
        if self._meta_age_s() >= (_META_AGE_S if unknown else _META_LIFE_S):
            await self._look(request)
        try:
            return check(self._meta.limits)
        except InvalidJob:
            if self._meta_age_s() < _META_AGE_S:
                raise
        await self._look(request)
        return check(self._meta.limits)

    async def _push(self, request: _Request, jobs: Sequence[WriteJob], bodies: Sequence[bytes]) -> list[Receipt]:
        token, began = new_token(), time.monotonic()
        try:
            return await self._push_once(request, token, jobs, bodies)
        except InvalidJob:  # a job is larger than the workers allow by now: look before the next check
            self._meta_read_at = float("-inf")
            raise
        except (PartitionMismatch, TooLate):  # nothing was stored; the partitions changed, or a clock was set
            await self._look(request, since=began)
            return await self._push_once(request, token, jobs, bodies)

    async def _push_once(
        self, request: _Request, token: str, jobs: Sequence[WriteJob], bodies: Sequence[bytes]
    ) -> list[Receipt]:
        meta, left_ms = self._meta, request.left_s * 1000
        placed = [(partition_of(job.user_id, meta.partitions), body) for job, body in zip(jobs, bodies, strict=True)]
        async with request:
            return await push(
                request.redis,
                self._keys,
                meta.partitions,
                placed,
                token=token,
                latest_ms=self.clock.least_ms() + left_ms,
                life_ms=int(left_ms) + _CLOCK_SLACK_MS,
                min_replicas=meta.min_replicas,
            )

    async def _look(self, request: _Request, *, since: float | None = None) -> None:
        """Look at the limits and at Redis's clock, unless another request has done so ``since`` (monotonic; now)."""
        asked = time.monotonic() if since is None else since
        async with request, request.connections.looking:
            if self._meta_read_at >= asked:
                return
            # A Redis that has lost them gets them again from a worker; until then they hold as they were.
            self._meta = await read_meta(request.redis, self._keys) or self._meta
            await self.clock.refresh(request.redis)
            self._meta_read_at = time.monotonic()

    def _meta_age_s(self) -> float:
        return time.monotonic() - self._meta_read_at


def _chunks(bodies: Sequence[bytes]) -> Iterable[tuple[int, int]]:
    """Cut into runs of at most ``PUSH_MAX_JOBS`` jobs and ``PUSH_MAX_BYTES`` bytes, but of one job at least."""
    first = size = 0
    for position, body in enumerate(bodies):
        if position > first and (position - first == PUSH_MAX_JOBS or size + len(body) > PUSH_MAX_BYTES):
            yield first, position
            first, size = position, 0
        size += len(body)
    if first < len(bodies):
        yield first, len(bodies)
