"""`MemoryQueue`: push write jobs, wait for them if needed, and search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import UNSET, UnsetType

from memory_worker.client.producer import MAX_CONNECTIONS, Producer
from memory_worker.contract import (
    MAX_POINT_IDS,
    CollectionInfo,
    Delete,
    Get,
    Hit,
    Info,
    Point,
    Purge,
    Receipt,
    Search,
    Upsert,
    WriteJob,
    check_receipt,
)
from memory_worker.contract.arguments import to_list, to_seconds
from memory_worker.contract.building import implied_kind, refuse_none, rename_field, to_timeout_ms, to_upsert
from memory_worker.contract.kinds import KindName
from memory_worker.wire.connection import Access
from memory_worker.wire.keys import Keys

MAX_WAIT_S = 3600.0
"""The longest that `MemoryQueue.wait_applied` waits."""


class MemoryQueue:
    """The queue for producers. It is safe for concurrent use within an event loop.

    Connections belong to the event loop that first used them. In another loop (after the first has ended) new ones are
    opened. Close the queue with ``async with`` or `close`.

    Every method raises `QueueUnavailable` if Redis cannot be reached or refuses a request. If Redis hangs, it does so
    soon after the timeout. A push that raised `QueueUnavailable` has either been stored once or will never be stored. A
    push that is cancelled may still be stored later.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "mw",
        timeout_s: float = 5.0,
        access: Access | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._producer = Producer(
            url,
            Keys(prefix),
            timeout_s=timeout_s,
            access=access or Access(),
            max_connections=max_connections,
        )

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        prefix: str = "mw",
        timeout_s: float = 5.0,
        max_connections: int = MAX_CONNECTIONS,
        username: str | None = None,
        password: str | None = None,
        tls_ca_file: Path | str | None = None,
        tls_cert_file: Path | str | None = None,
        tls_key_file: Path | str | None = None,
    ) -> Self:
        """Return a queue for the Redis at ``url``. It connects at the first use.

        ``prefix`` is the workers' ``QUEUE_PREFIX``. ``timeout_s`` bounds each round trip of a push, including all of
        its steps from waiting for a connection to the reply. At most ``max_connections`` are open at once: a quarter of
        them for pushes, the others for waits and reads. If none is free, a request waits for one until its timeout.
        ``username`` and ``password`` override those in the URL. They are used as they are, not percent-decoded.

        ``rediss://`` uses TLS. The certificate must belong to the host in the URL and be signed by an authority of the
        system or, if ``tls_ca_file`` is given, by that authority. ``tls_cert_file`` and ``tls_key_file`` are the client
        certificate, if Redis asks for one. All three are PEM files, which are read at the first use. The first use
        raises `ConfigurationError` if the URL or a file cannot be used.
        """
        access = Access(
            username=username,
            password=password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
        )
        return cls(url, prefix=prefix, timeout_s=timeout_s, access=access, max_connections=max_connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The queue may be used again afterwards."""
        await self._producer.close()

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
        """Push a write of one point. ``vector`` is float32 bytes, a buffer of floats, or numbers.

        In ``payload``, dates and times (with or without a time zone) are stored as ISO 8601 text, ``UUID`` and
        ``Decimal`` as text, enums as their value, and sets as lists. Other types that JSON does not have, such as those
        of NumPy, are refused. Raises `InvalidJob`, which names the field, or `QueueFull`. In both cases nothing is
        stored.
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
        """Push writes of many points. Each is an `Upsert` or a map of the arguments of `upsert`.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first points were stored.
        """
        found = to_list("upsert_many", points, of="upserts")
        return await self.push_many([to_upsert(f"upsert_many[{at}]", point) for at, point in enumerate(found)])

    async def delete(
        self,
        *,
        user_id: int,
        point_id: str | None = None,
        point_ids: Sequence[str] = (),
        kind: KindName = "memory",
        namespace: str | None = None,
    ) -> Receipt:
        """Push a delete of one point or, with ``point_ids``, of up to 1,000 points."""
        ids = to_list("point_ids", point_ids, of="point ids", max_items=MAX_POINT_IDS)
        with rename_field(f"point_ids[{len(ids)}]", "point_id"):
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
        """Push a delete of all points of a user.

        ``kind``, ``namespace``, ``category``, ``group_key`` and ``file_id`` narrow it if given. They must not be
        ``None``, so that a file whose id is not known yet does not delete all files.
        """
        narrowing = {"namespace": namespace, "category": category, "group_key": group_key, "file_id": file_id}
        refuse_none({"kind": kind, **narrowing}, "leave it out to delete more")
        kind = implied_kind(narrowing) if kind is UNSET else kind
        return (await self.push_many([Purge(user_id=user_id, kind=kind, **narrowing)]))[0]  # type: ignore[arg-type]

    async def push_many(self, jobs: Iterable[WriteJob]) -> list[Receipt]:
        """Push write jobs in order. Each round trip stores up to 256 jobs or 1 MiB, and stores all of them or none.

        Raises `InvalidJob` before anything is stored, or `PushedInPart` if only the first jobs were stored.
        """
        return await self._producer.push(jobs)

    async def wait_applied(self, receipt: Receipt, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # one blocking call
        """Wait until the job of ``receipt`` has been applied. From then on, searches see its effect.

        Raises `NotApplied` after ``timeout`` seconds (at most an hour), or `DeadLettered` if the job can never be
        applied. Raises `UnknownReceipt` (a subclass of `NotApplied`) if Redis has lost data since the push. In that
        case push again.
        """
        check_receipt(receipt)
        await self._producer.wait_applied(receipt, timeout_s=to_seconds("timeout", timeout, maximum=MAX_WAIT_S))

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

        ``limit`` is 1 to 100. The defaults of ``limit`` and ``min_score`` are 5 and 0.7 for memories, 10 and 0.3 for
        documents. ``category``, ``group_key`` and ``file_id`` narrow the search if given, and must not be ``None``.
        Raises `InvalidJob`, `QueueFull` if too many searches wait, `QueueUnavailable`, or `ReadFailed` if there is no
        answer within ``timeout`` seconds (at most 60) or the answer is an error.
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
            timeout_ms=to_timeout_ms(timeout),
            **narrowing,  # type: ignore[arg-type]  # checked with the job
        )
        return (await self._producer.call(job)).hits or []

    async def get(
        self,
        *,
        user_id: int,
        point_ids: Sequence[str],
        kind: KindName = "memory",
        namespace: str | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109  # the deadline travels with the job
    ) -> list[Point]:
        """Return the points with these ids that exist, in this order. Raises the same errors as `search`."""
        job = Get(
            user_id=user_id,
            point_ids=point_ids,  # type: ignore[arg-type]  # any iterable becomes a list
            kind=kind,
            namespace=namespace,
            timeout_ms=to_timeout_ms(timeout),
        )
        return (await self._producer.call(job)).points or []

    async def info(self, *, timeout: float = 5.0) -> list[CollectionInfo]:  # noqa: ASYNC109  # travels with the job
        """Return the state of the collections in Qdrant. Raises the same errors as `search`."""
        return (await self._producer.call(Info(timeout_ms=to_timeout_ms(timeout)))).collections or []
