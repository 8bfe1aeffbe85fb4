"""Reconciliation: compare a collection with the manifest of the app, beside live workers and producers.

    watch the queue ─▶ read the manifest ─▶ read the collection ─▶ compare ─▶ read differing points again ─▶ compare

A point is reported only if both reads differ from the manifest, and if no job about it has waited or was pushed since
the beginning. Every step takes little memory, whatever the number of points (`memory_worker.repair.ledger`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import UNSET
from redis.asyncio import Redis

from memory_worker.contract import partition_of
from memory_worker.contract.errors import ConfigurationError
from memory_worker.contract.kinds import POINT_ID_FIELD, UPDATED_FIELD, Kind, primary_id
from memory_worker.queue.watching import StreamWatch
from memory_worker.repair.ledger import Ledger, Value
from memory_worker.repair.manifest import MAX_LINE_BYTES, Lines, parse_line
from memory_worker.repair.owners import OWNER_FIELDS, owner_of, user_of
from memory_worker.repair.touched import Touched
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.store.stored_points import StoredPoint, StoredPoints
from memory_worker.wire.keys import Keys

DEFAULT_HASH_FIELD = "_hash"
_LINES = 1000
_SWITCH_S = 0.0002
_CANDIDATES = 250

Advance = Callable[[str, int], object]
"""It gets the name of a step, and how many items were done."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison, in points.

    ``changing`` are differences that are not reported, because jobs about these points have waited or were pushed.
    ``undecided`` are those of partitions whose jobs were not all seen or understood. ``unowned`` are stored points
    without a ``_point_id`` that belongs to their user.
    """

    collection: str
    manifest: int
    stored: int
    missing: int
    orphaned: int
    stale: int
    changing: int
    undecided: int
    unowned: int

    @property
    def in_sync(self) -> bool:
        """Whether there is no difference, as far as is known."""
        return not (self.missing or self.orphaned or self.stale or self.undecided)


class Reconciler:
    """Compares one collection with a manifest. ``directory`` is for temporary files. Use it once."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        ref: CollectionRef,
        directory: Path,
        *,
        partitions: int,
        hash_field: str = DEFAULT_HASH_FIELD,
        advance: Advance = lambda _step, _done: None,
    ) -> None:
        self.ref = ref
        self.ledger = Ledger(directory)
        self.touched = Touched(directory, store.collections.kinds, ref)
        self.watch = StreamWatch(redis, keys, partitions, self.touched.see)
        self.partitions = partitions
        self._store = store
        self._kind: Kind = store.collections.kinds[ref.kind]
        self._fields = (*OWNER_FIELDS, UPDATED_FIELD, hash_field)
        self._advance = advance
        self._unowned = self._changing = self._undecided = self._stored = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the queue. `compare`, and what is done about its findings, must happen meanwhile."""
        # The work of other threads must not keep the watch waiting for the usual 5 ms: jobs pass in that time.
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        await self.watch.start()
        following = asyncio.create_task(self.watch.follow(), name="follow the queue")
        try:
            yield
        finally:
            self.watch.stop()
            await following
            sys.setswitchinterval(usual_s)
            self.ledger.close()
            self.touched.close()

    async def compare(self, manifest: Lines) -> Summary:
        """Compare. A manifest that is made after `watching` has begun misses no change.

        Raises `ConfigurationError` for a malformed line, `StoreError`, `QueueError`.
        """
        size = await self._read_manifest(manifest)
        points = await self._points()
        if points is not None:
            await self._read_collection(points)
        await asyncio.to_thread(self.ledger.find_candidates)
        if points is not None:
            await self._read_again(points)
        await self.watch.catch_up()
        await asyncio.to_thread(self.ledger.settle, self._judge)
        found = self.ledger.counts()
        return Summary(
            collection=self._store.collections.name(self.ref),
            manifest=size,
            stored=self._stored,
            missing=found.get("missing", 0),
            orphaned=found.get("orphaned", 0),
            stale=found.get("stale", 0),
            changing=self._changing,
            undecided=self._undecided,
            unowned=self._unowned,
        )

    async def _read_manifest(self, manifest: Lines) -> int:
        """Return the number of its points."""
        done = 0
        while read := await asyncio.to_thread(self._read_lines, manifest, done):
            done += read
            self._advance("manifest", read)
        return await asyncio.to_thread(self.ledger.sort_wanted)

    def _read_lines(self, manifest: Lines, done: int) -> int:
        """Read the next lines of the manifest. Return how many there were."""
        lines: list[bytes] = []
        while len(lines) < _LINES and (line := manifest.readline(MAX_LINE_BYTES + 1)):
            lines.append(line)
        rows: list[tuple[str, Value, Value, int]] = []
        for number, text in enumerate(lines, start=done + 1):
            found = parse_line(self._kind, number, text)
            if found is not None:
                hashed = None if found.hash is UNSET else str(found.hash)
                rows.append((found.point_id, None if found.updated is UNSET else found.updated, hashed, number))
        self.ledger.add_wanted(rows)
        return len(lines)

    async def _points(self) -> StoredPoints | None:
        """Return the points of the collection, or ``None`` if it does not exist."""
        collections = self._store.collections
        if self.ref in await collections.existing():
            return self._store.stored_points(self.ref)
        if await collections.describe(self.ref) is not None:
            raise ConfigurationError(
                f"collection {collections.name(self.ref)} does not belong to this deployment: no worker has written to "
                "it, and the settings do not name its namespace"
            )
        return None

    async def _read_collection(self, points: StoredPoints) -> None:
        async for page in points.pages(self._fields):
            self._stored += len(page)
            self._unowned += await asyncio.to_thread(self._store_page, page)
            self._advance("collection", len(page))

    async def _read_again(self, points: StoredPoints) -> None:
        for point_ids in self.ledger.candidates(_CANDIDATES):
            found = await points.of(point_ids, self._fields)
            await asyncio.to_thread(self.ledger.remove_stored, point_ids)
            await asyncio.to_thread(self._store_page, found)
            self._advance("differences", len(point_ids))

    def _store_page(self, page: Sequence[StoredPoint]) -> int:
        """Store points in the ledger, and return how many have no owner. The copy under the UUID is the newest one."""
        newest: list[tuple[str, Value, Value]] = []
        older: list[tuple[str, Value, Value]] = []
        for point in page:
            if owner_of(self._kind, point.payload) is not None:
                point_id = point.payload[POINT_ID_FIELD]
                row = (point_id, _number(point.payload.get(UPDATED_FIELD)), _text(point.payload.get(self._fields[-1])))
                (newest if point.primary_id == primary_id(point_id) else older).append(row)
        self.ledger.add_stored(newest)
        self.ledger.add_stored(older, older=True)
        return len(page) - len(newest) - len(older)

    def _judge(self, uuid: bytes, point_id: str) -> tuple[int, str] | None:
        """Return the partition and the user of a point that is reported; ``None`` if it is not."""
        user_id = user_of(self._kind, point_id)
        partition = partition_of(user_id, self.partitions)
        if self.touched.has(uuid, user_id):
            self._changing += 1
            return None
        if partition in self.watch.gaps or partition in self.touched.unsure:
            self._undecided += 1
            return None
        return partition, str(user_id)


def _number(value: object) -> Value:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> Value:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
