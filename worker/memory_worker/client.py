"""What the main app imports: push write jobs, wait for them where needed, search.

    async with MemoryQueue.connect("redis://localhost:6379") as queue:
        receipt = await queue.upsert(user_id=1730, point_id="mem_1730_1", vector=vector, payload={"value": "..."})

Importing this module loads neither qdrant-client nor grpc, and makes no metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from arq.connections import ArqRedis
from msgspec import UNSET, UnsetType

from memory_worker.contract import (
    MAX_POINT_IDS,
    CollectionInfo,
    Delete,
    Get,
    Hit,
    Info,
    Limits,
    Point,
    Purge,
    ReadJob,
    Receipt,
    Reply,
    Search,
    Upsert,
    WriteJob,
    check_receipt,
    checked,
    encode_plain,
    partition_of,
    plain_job,
)
from memory_worker.contract.arguments import listed, seconds
from memory_worker.contract.building import (
    each,
    implied_kind,
    milliseconds,
    refuse_none,
    renamed,
    upsert_of,
    write_jobs,
)
from memory_worker.errors import InvalidJob, PartitionMismatch, PushedInPart, QueueError, ReadFailed, TooLate
from memory_worker.kinds import KindName
from memory_worker.queue.calls import enqueue_call, take_reply
from memory_worker.queue.clock import RedisClock
from memory_worker.queue.connection import Access, open_redis
from memory_worker.queue.keys import Keys
from memory_worker.queue.log import JobLog
from memory_worker.queue.meta import QueueMeta, read_meta
from memory_worker.queue.push import push

PUSH_MAX_JOBS = 256
PUSH_MAX_BYTES = 1_048_576
MAX_WAIT_S = 3600.0
"""The longest that `MemoryQueue.wait_applied` waits."""
_REPLY_MARGIN_S = 0.25
_META_AGE_S = 5.0
_META_LIFE_S = 60.0
"""Workers may have been given other limits since."""

_Checked = TypeVar("_Checked")

__all__ = ["Hit", "MemoryQueue", "Point", "Receipt"]


class MemoryQueue:
    """The queue as the main app sees it. Safe for concurrent use within an event loop.

    Connections belong to the event loop that first used them; in another loop (after the first has ended) new ones
    are opened. Close it with ``async with`` or `close`.

    Every method raises `QueueUnavailable` when Redis cannot be reached within ``timeout_s`` seconds or refuses. A push
    that raised it is stored by then or never will be; one that is cancelled before may still be stored.
    """

    def __init__(self, url: str, *, prefix: str = "mw", timeout_s: float = 5.0, access: Access | None = None) -> None:
        self._url = url
        self._access = access or Access()
        self._keys = Keys(prefix)
        self._timeout_s = timeout_s
        self._connections: _Connections | None = None
        self._clock = RedisClock()
        self._meta = QueueMeta()
        self._meta_read_at = float("-inf")

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        prefix: str = "mw",
        timeout_s: float = 5.0,
        username: str | None = None,
        password: str | None = None,
        tls_ca_file: Path | str | None = None,
        tls_cert_file: Path | str | None = None,
        tls_key_file: Path | str | None = None,
    ) -> Self:
        """Return a queue for the Redis at ``url``; nothing connects before the first use.

        ``prefix`` is the workers' ``QUEUE_PREFIX``; ``timeout_s`` bounds each round trip. ``username`` and
        ``password`` override those of the URL and are taken as they are, not percent-encoded.

        ``rediss://`` speaks TLS, and checks that the certificate is of the host in the URL and signed by an authority
        of the system or, if given, by the one in ``tls_ca_file``. ``tls_cert_file`` and ``tls_key_file`` are for a
        Redis that asks for a certificate of ours. All three are PEM files, read at the first use, which raises
        `ConfigurationError` when they or the URL are of no use.
        """
        access = Access(
            username=username,
            password=password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
        )
        return cls(url, prefix=prefix, timeout_s=timeout_s, access=access)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The queue may be used again afterwards."""
        connections, self._connections = self._connections, None
        if connections is not None and connections.loop is asyncio.get_running_loop():
            await connections.close()

    async def upsert(
        self,
        *,
        user_id: int,
        point_id: str,
        vector: Any,
        payload: Mapping[str, Any] | None = None,
        kind: KindName = "memory",
        namespace: str | None = None,
    ) -> Receipt:
        """Push a write of one point; ``vector`` is float32 bytes, a buffer of floats or numbers.

        In ``payload`` dates and times, with a zone or without, are stored as ISO 8601 text, ``UUID`` and ``Decimal`` as
        text, enums as their value, sets as lists; types that JSON does not have, NumPy's among them, are refused.
        Raises `InvalidJob` (naming the field) or `QueueFull`; nothing is stored then.
        """
        job = Upsert(
            user_id=user_id,
            point_id=point_id,
            vector=vector,
            payload={} if payload is None else payload,  # type: ignore[arg-type]  # another map becomes a dict
            kind=kind,
            namespace=namespace,
        )
        return (await self.push_many([job]))[0]

    async def upsert_many(self, points: Iterable[Upsert | Mapping[str, Any]]) -> list[Receipt]:
        """Push writes of many points, given as `Upsert` jobs or as maps of the arguments of `upsert`.

        Raises `InvalidJob` before anything is stored, `PushedInPart` when only the first of them could be stored.
        """
        found = listed("upsert_many", points, of="upserts")
        return await self.push_many([upsert_of(f"upsert_many[{at}]", point) for at, point in enumerate(found)])

    async def delete(
        self,
        *,
        user_id: int,
        point_id: str | None = None,
        point_ids: Sequence[str] = (),
        kind: KindName = "memory",
        namespace: str | None = None,
    ) -> Receipt:
        """Push a delete of one point or, by ``point_ids``, of up to 1,000."""
        ids = listed("point_ids", point_ids, of="point ids", most=MAX_POINT_IDS)
        with renamed(f"point_ids[{len(ids)}]", "point_id"):
            ids += [] if point_id is None else [point_id]
            job = Delete(user_id=user_id, point_ids=ids, kind=kind, namespace=namespace)
            return (await self.push_many([job]))[0]

    async def purge(
        self,
        *,
        user_id: int,
        kind: KindName | UnsetType = UNSET,
        namespace: str | UnsetType = UNSET,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
    ) -> Receipt:
        """Push a delete of everything of a user; of one kind, one namespace, one category, group or file if given.

        What is given must not be ``None``: a file without an id yet is no reason to delete all files.
        """
        narrowing = {"namespace": namespace, "category": category, "group_key": group_key, "file_id": file_id}
        refuse_none({"kind": kind, **narrowing}, "leave it out to delete more")
        kind = implied_kind(narrowing) if kind is UNSET else kind
        return (await self.push_many([Purge(user_id=user_id, kind=kind, **narrowing)]))[0]  # type: ignore[arg-type]

    async def push_many(self, jobs: Iterable[WriteJob]) -> list[Receipt]:
        """Push write jobs in order. Each round trip stores up to 256 jobs or 1 MiB, all of them or none.

        Raises `InvalidJob` before anything is stored, `PushedInPart` when only the first of them could be stored.
        """
        jobs = each(write_jobs(jobs), plain_job)
        bodies = await self._checked(lambda limits: each(jobs, partial(encode_plain, limits=limits)))
        receipts: list[Receipt] = []
        for first, last in _chunks(bodies):
            try:
                receipts += await self._push(jobs[first:last], bodies[first:last])
            except QueueError as error:
                if not receipts:
                    raise
                raise PushedInPart(receipts, len(jobs)) from error
        return receipts

    async def wait_applied(self, receipt: Receipt, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # one blocking call
        """Return once the job of ``receipt`` is applied, so that a search finds what it wrote.

        Raises `NotApplied` after ``timeout`` seconds (at most an hour), `DeadLettered` when it can never be applied.
        """
        check_receipt(receipt)
        timeout_s = seconds("timeout", timeout, most=MAX_WAIT_S)
        blocking = self._open().blocking
        await JobLog(blocking, self._keys).wait_applied(receipt, timeout_s=timeout_s)

    async def search(
        self,
        *,
        user_id: int,
        vector: Any,
        kind: KindName = "memory",
        namespace: str | None = None,
        limit: int | None = None,
        min_score: float | None = None,
        category: str | UnsetType = UNSET,
        group_key: str | UnsetType = UNSET,
        file_id: int | UnsetType = UNSET,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> list[Hit]:
        """Return the user's points nearest to ``vector``, best first.

        ``limit`` (1 to 100) and ``min_score`` default to the kind's: 5 and 0.7 for memories, 10 and 0.3 for documents.
        ``category``, ``group_key`` and ``file_id`` narrow the search if given, and must not be ``None``.
        Raises `InvalidJob`, `QueueFull` when too many searches wait, or `ReadFailed` when there is no answer within
        ``timeout`` seconds (at most 60) or it is an error.
        """
        narrowing = {"category": category, "group_key": group_key, "file_id": file_id}
        refuse_none(narrowing, "leave it out to find more")
        job = Search(
            user_id=user_id,
            vector=vector,
            kind=kind,
            namespace=namespace,
            limit=limit,
            min_score=min_score,
            timeout_ms=milliseconds(timeout),
            **narrowing,  # type: ignore[arg-type]  # checked with the job
        )
        return (await self._call(job)).hits or []

    async def get(
        self,
        *,
        user_id: int,
        point_ids: Sequence[str],
        kind: KindName = "memory",
        namespace: str | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> list[Point]:
        """Return the points of these ids that exist, in this order; raises as `search`."""
        job = Get(
            user_id=user_id,
            point_ids=point_ids,  # type: ignore[arg-type]  # any iterable becomes a list
            kind=kind,
            namespace=namespace,
            timeout_ms=milliseconds(timeout),
        )
        return (await self._call(job)).points or []

    async def info(self, *, timeout: float = 5.0) -> list[CollectionInfo]:  # noqa: ASYNC109  # travels with the job
        """Return what Qdrant says of the collections; raises as `search`."""
        return (await self._call(Info(timeout_ms=milliseconds(timeout)))).collections or []

    async def _call(self, job: ReadJob) -> Reply:
        plain = plain_job(job)
        connections = self._open()
        job = await self._checked(lambda limits: checked(plain, limits))
        reply_to = await enqueue_call(connections.redis, self._keys, job)
        wait_s = job.timeout_ms / 1000 + _REPLY_MARGIN_S
        reply = await take_reply(connections.blocking, reply_to, timeout_s=wait_s)
        if reply is None:
            raise ReadFailed("timeout", f"no worker answered within {job.timeout_ms} ms")
        if reply.error is not None:
            raise ReadFailed(reply.error.code, reply.error.message)
        return reply

    async def _checked(self, check: Callable[[Limits], _Checked]) -> _Checked:
        """Check against the limits that the workers have published; look at them again before refusing."""
        redis = self._open().redis
        unknown = self._meta.limits.dimension is None
        if self._meta_age_s() >= (_META_AGE_S if unknown else _META_LIFE_S):
            await self._read_meta(redis)
        try:
            return check(self._meta.limits)
        except InvalidJob:
            if self._meta_age_s() < _META_AGE_S:
                raise
        await self._read_meta(redis)
        return check(self._meta.limits)

    async def _push(self, jobs: Sequence[WriteJob], bodies: Sequence[bytes]) -> list[Receipt]:
        redis = self._open().redis
        try:
            return await self._push_once(redis, jobs, bodies)
        except (PartitionMismatch, TooLate):  # nothing was stored; the partitions changed, or a clock was set
            await self._read_meta(redis)
            return await self._push_once(redis, jobs, bodies)

    async def _push_once(self, redis: ArqRedis, jobs: Sequence[WriteJob], bodies: Sequence[bytes]) -> list[Receipt]:
        meta = self._meta
        return await push(
            redis,
            self._keys,
            meta.partitions,
            self._placed(jobs, bodies),
            latest_ms=self._clock.least_ms() + self._timeout_s * 1000,
            min_replicas=meta.min_replicas,
        )

    def _placed(self, jobs: Sequence[WriteJob], bodies: Sequence[bytes]) -> list[tuple[int, bytes]]:
        partitions = self._meta.partitions
        return [(partition_of(job.user_id, partitions), body) for job, body in zip(jobs, bodies, strict=True)]

    async def _read_meta(self, redis: ArqRedis) -> None:
        self._meta = await read_meta(redis, self._keys) or QueueMeta()
        await self._clock.refresh(redis)
        self._meta_read_at = time.monotonic()

    def _meta_age_s(self) -> float:
        return time.monotonic() - self._meta_read_at

    def _open(self) -> _Connections:
        loop = asyncio.get_running_loop()
        if self._connections is None or self._connections.loop is not loop:
            self._connections = _Connections(loop, self._url, self._access, self._timeout_s)
        return self._connections


class _Connections:
    """The connections of one event loop: those whose replies come at once, and those that wait on purpose."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, access: Access, timeout_s: float) -> None:
        self.loop = loop
        self.redis = open_redis(url, timeout_s=timeout_s, access=access)
        self.blocking = open_redis(url, timeout_s=None, access=access)

    async def close(self) -> None:
        for redis in (self.redis, self.blocking):
            await redis.aclose(close_connection_pool=True)


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
