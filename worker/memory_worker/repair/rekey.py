"""Rekeying: points under integer ids get the UUIDs of their logical ids.

Older versions of the main app gave points integer ids. Such a point is found only by its ``_point_id``, and each upsert
must delete it. Workers may run beside this: a point is moved while the leases of its user's partition are held, so no
other write of that user is applied, and the point is read again under the lease.

Integers come first in the order of ids. So a run that was interrupted is simply repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import partition_of
from memory_worker.contract.errors import StoreUnavailable
from memory_worker.contract.kinds import POINT_ID_FIELD, primary_id
from memory_worker.ingest.leased_requests import next_deadline, send_leased
from memory_worker.queue.holding import PartitionHolder
from memory_worker.queue.lease import Lease
from memory_worker.repair.owners import OWNER_FIELDS, owner_of
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.store.stored_points import StoredPoint, move_of
from memory_worker.store.values import payload_of
from memory_worker.wire.keys import Keys

_AT_ONCE = 64
"""So many points are moved in one request."""
_TOO_LARGE = "RESOURCE_EXHAUSTED"
"""The code of an answer with too many bytes. It has several messages, so that not each becomes `AnswerTooLarge`."""


class IntegerIds(msgspec.Struct, frozen=True):
    """The points of a collection under integer ids.

    ``twins`` are those that are also stored under their UUID. ``unowned`` are those whose ``_point_id`` is missing or
    does not belong to their user.
    """

    collection: str
    integer_ids: int = 0
    twins: int = 0
    unowned: int = 0


class Rekeyed(msgspec.Struct, frozen=True):
    """What was done in a collection: points that were ``moved``, and those ``deleted`` because the UUID copy is newer.

    ``left`` are the points that are still under integer ids; of these, ``unowned`` can never be moved.
    """

    collection: str
    moved: int = 0
    deleted: int = 0
    left: int = 0
    unowned: int = 0


class RekeyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run. A request must end ``margin_s`` seconds before the lease does.

    ``min_replicas`` replicas of Redis must have the lease before each request.
    """

    partitions: int
    lease_ttl_s: float = 8.0
    request_timeout_s: float = 5.0
    margin_s: float = 1.0
    settle_s: float = 1.0
    min_replicas: int = 0


class Rekeyer:
    """Moves the points of one deployment to their UUIDs. All methods raise `StoreError` and `QueueError`."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, options: RekeyOptions) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._options = options
        self._holder = PartitionHolder(
            redis, keys, options.partitions, lease_ttl_s=options.lease_ttl_s, settle_s=options.settle_s
        )

    async def count(self, ref: CollectionRef) -> IntegerIds:
        """Count the points of a collection under integer ids. This changes nothing."""
        points = self._store.stored_points(ref)
        total = twins = unowned = 0
        async for page in points.with_integer_ids(OWNER_FIELDS):
            uuids = [primary_id(point.payload[POINT_ID_FIELD]) for point in page if self._is_owned(ref, point)]
            total += len(page)
            unowned += len(page) - len(uuids)
            existing = await points.existing(uuids) if uuids else set()
            twins += sum(uuid in existing for uuid in uuids)
        return IntegerIds(self._store.collections.name(ref), total, twins, unowned)

    async def rekey(self, ref: CollectionRef, advance: Callable[[int], object] = lambda _: None) -> Rekeyed:
        """Move the points of a collection. If none is left under an integer id, its origin becomes ``rekeyed``.

        ``advance`` is called with numbers of points that were examined.
        """
        moved = deleted = 0
        if await self._store.collections.adopt(ref):
            async for page in self._store.stored_points(ref).with_integer_ids(OWNER_FIELDS):
                for partition, point_ids in self._by_partition(ref, page).items():
                    for first in range(0, len(point_ids), _AT_ONCE):
                        counts = await self._move_held(ref, partition, point_ids[first : first + _AT_ONCE])
                        moved, deleted = moved + counts[0], deleted + counts[1]
                advance(len(page))
        left = await self.count(ref)
        if not left.integer_ids:
            await self._store.collections.mark_rekeyed(ref)
        return Rekeyed(left.collection, moved, deleted, left.integer_ids, left.unowned)

    def _is_owned(self, ref: CollectionRef, point: StoredPoint) -> bool:
        return owner_of(self._store.collections.kinds[ref.kind], point.payload) is not None

    def _by_partition(self, ref: CollectionRef, page: Sequence[StoredPoint]) -> dict[int, list[str]]:
        """Return the logical ids of the points that have an owner, by partition."""
        kind = self._store.collections.kinds[ref.kind]
        found: dict[int, list[str]] = {}
        for point in page:
            user_id = owner_of(kind, point.payload)
            if user_id is not None:
                partition = partition_of(user_id, self._options.partitions)
                found.setdefault(partition, []).append(point.payload[POINT_ID_FIELD])
        return found

    async def _move_held(self, ref: CollectionRef, partition: int, point_ids: list[str]) -> tuple[int, int]:
        async with self._holder.hold(partition) as leases:
            return await self._move(ref, leases, point_ids)

    async def _move(self, ref: CollectionRef, leases: Sequence[Lease], point_ids: list[str]) -> tuple[int, int]:
        """Move points of a partition whose leases are held. Return how many were moved, and how many only deleted."""
        kind = self._store.collections.kinds[ref.kind]
        deadline = await next_deadline(self._redis, self._keys, leases, self._options)
        try:
            found = await self._store.stored_points(ref).whole(point_ids, deadline=deadline)
        except StoreUnavailable as error:
            if len(point_ids) == 1 or error.code != _TOO_LARGE:
                raise
            half = len(point_ids) // 2
            first, second = [await self._move(ref, leases, part) for part in (point_ids[:half], point_ids[half:])]
            return first[0] + second[0], first[1] + second[1]
        owned = [record for record in found if owner_of(kind, payload_of(record.payload)) is not None]
        move = move_of(self._store.collections.name(ref), owned)
        if move is None:
            return 0, 0
        await send_leased(self._store, leases, [(ref, move.request)], deadline)
        return move.moved, move.deleted
