"""Delete orphans: points that two runs have found in the collection, but not in the manifest.

The first run remembers its orphans, and the second one deletes those that it finds, too. The delete is a job like any
other. In one step with its push it is checked that nothing about the point was pushed since the comparison began. So no
newer write of the app is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Delete, Limits, encode_write, version_of
from memory_worker.contract.errors import ConfigurationError
from memory_worker.contract.kinds import Kind
from memory_worker.repair.ledger import Orphan, key_of
from memory_worker.repair.owners import user_of
from memory_worker.repair.reconcile import Reconciler
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import streams_of
from memory_worker.wire.push import push_if_unchanged

SHRINKING = 0.8
"""A manifest that is smaller than this part of the last one is probably incomplete."""
_AT_ONCE = 200
_TRIES = 20

_encode, _decode = msgspec.json.encode, msgspec.json.decode


class Deleted(NamedTuple):
    """How many orphans deletes were pushed for, and how many were left because their partitions are too busy."""

    pushed: int = 0
    left: int = 0


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    queue: str
    kind: str
    namespace: str | None
    manifest: int


class LastRun:
    """The file that remembers a run: the size of its manifest, and its orphans. One line each, as JSON."""

    def __init__(self, path: Path, keys: Keys, reconciler: Reconciler) -> None:
        self._path = path
        self._reconciler = reconciler
        self._this = _Header(keys.prefix, reconciler.ref.kind, reconciler.ref.namespace, 0)

    def load(self) -> int | None:
        """Load the orphans into the ledger. Return the size of the manifest, or ``None`` if there was no run.

        Raises `ConfigurationError` if the file is of another collection, or no such file.
        """
        if not self._path.exists():
            return None
        try:
            with self._path.open("rb") as file:
                header = _decode(file.readline(), type=_Header)
                if msgspec.structs.replace(header, manifest=0) != self._this:
                    raise ConfigurationError(f"{self._path} is about another queue, kind or namespace")
                while lines := list(islice(file, 1000)):
                    self._reconciler.ledger.add_before(_decode(line, type=str) for line in lines)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self._path} is not the state of a reconciliation: {error}") from error
        return header.manifest

    def save(self, manifest: int) -> None:
        """Remember this run instead of the last one. Raises `OSError`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("wb") as file:
            file.write(_encode(msgspec.structs.replace(self._this, manifest=manifest)) + b"\n")
            for one in self._reconciler.ledger.findings():
                if one.finding == "orphaned":
                    file.write(_encode(one.point_id) + b"\n")
        new.replace(self._path)


def refusal(manifest: int, last: int | None) -> str | None:
    """Return why a manifest of this size is probably incomplete; ``None`` if it is not."""
    if not manifest:
        return "the manifest is empty"
    if last is not None and manifest < SHRINKING * last:
        return f"the manifest has {manifest:,} points, a fifth less than the last one ({last:,})"
    return None


async def delete_orphans(redis: Redis, keys: Keys, reconciler: Reconciler, limits: Limits) -> Deleted:
    """Push deletes of the orphans that the last run has seen, too. Call it while the reconciler watches the queue."""
    pushed = left = 0
    kind = limits.kinds[reconciler.ref.kind]
    for partition, orphans in groupby(reconciler.ledger.orphans_of_both_runs(), lambda orphan: orphan.partition):
        while chunk := list(islice(orphans, _AT_ONCE)):
            done = await _Deletion(redis, keys, reconciler, kind, limits).delete(partition, chunk)
            pushed, left = pushed + done.pushed, left + done.left
    return Deleted(pushed, left)


class _Deletion(NamedTuple):
    redis: Redis
    keys: Keys
    reconciler: Reconciler
    kind: Kind
    limits: Limits

    async def delete(self, partition: int, orphans: list[Orphan]) -> Deleted:
        watch, partitions = self.reconciler.watch, self.reconciler.partitions
        streams = [self.keys.stream(number) for number in streams_of(partition, partitions)]
        for _ in range(_TRIES):
            async with watch.paused(), self.redis.pipeline(transaction=True) as pipe:
                with queue_request("watch"):
                    await pipe.watch(*streams)
                await watch.catch_up_paused([partition])
                if partition in watch.gaps or partition in self.reconciler.touched.unsure:
                    return Deleted(0, len(orphans))
                jobs = list(self._jobs(orphans))
                if not jobs:
                    return Deleted()
                entries = [(partition, encode_write(job, self.limits)) for job in jobs]
                versions = [version_of(job, self.limits) for job in jobs]
                users = [job.user_id for job in jobs]
                if await push_if_unchanged(pipe, self.keys, partitions, entries, versions=versions, users=users):
                    return Deleted(sum(len(job.point_ids) for job in jobs), 0)
        return Deleted(0, len(orphans))

    def _jobs(self, orphans: list[Orphan]) -> Iterator[Delete]:
        """Yield a delete for each user, of the points that no job touches."""
        ref = self.reconciler.ref
        for _, of_user in groupby(orphans, lambda orphan: orphan.user_id):
            ids = [orphan.point_id for orphan in of_user]
            user_id = user_of(self.kind, ids[0])
            ids = [one for one in ids if not self.reconciler.touched.has(key_of(one), user_id)]
            if ids:
                yield Delete(user_id=user_id, point_ids=ids, kind=ref.kind, namespace=ref.namespace)
