"""The points that jobs of the queue touch while a comparison runs. Nothing is reported about them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from memory_worker.contract import CONTRACT_VERSION, Delete, Patch, Prune, Purge, Upsert, WriteJob, decode_write
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import ALL_NAMESPACES, Kinds, UserId
from memory_worker.repair.ledger import key_of
from memory_worker.store.operations import CollectionRef


class Touched:
    """What the jobs touch in one collection: points by their ids, or all points of a user.

    The ids are in a file in ``directory``, so that a long run beside many writes takes little memory. Methods may be
    called from any thread.
    """

    def __init__(self, directory: Path, kinds: Kinds, ref: CollectionRef) -> None:
        self.unsure: set[int] = set()
        """Partitions with jobs that this version does not understand."""
        self._kinds = kinds
        self._ref = ref
        self._users: set[UserId] = set()
        self._db = sqlite3.connect(directory / "touched.db", check_same_thread=False, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE touched (uuid BLOB PRIMARY KEY) WITHOUT ROWID;"
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def see(self, partition: int, version: int, body: bytes) -> None:
        """Add what the job of an entry touches. A malformed job touches nothing, because it becomes a dead letter."""
        if version > CONTRACT_VERSION:
            self.unsure.add(partition)
            return
        try:
            job = decode_write(body)
        except InvalidJob:
            return
        named = job.only_kind if isinstance(job, Purge) else job.kind
        if named is not None and named not in self._kinds:
            self.unsure.add(partition)
        elif self._is_reached_by(job):
            self._add(job)

    def has(self, uuid: bytes, user_id: UserId) -> bool:
        """Whether a job touches this point of this user."""
        return user_id in self._users or bool(
            self._db.execute("SELECT 1 FROM touched WHERE uuid = ?", (uuid,)).fetchone()
        )

    def _is_reached_by(self, job: WriteJob) -> bool:
        ref = self._ref
        if isinstance(job, Purge):
            kind = job.only_kind or (ref.kind if self._kinds[ref.kind].has_user(job.user_id) else None)
            return kind == ref.kind and job.only_namespace in (None, ref.namespace)
        return job.kind == ref.kind and job.namespace in (ref.namespace, ALL_NAMESPACES)

    def _add(self, job: WriteJob) -> None:
        match job:
            case Upsert():
                point_ids = [job.point_id]
            case Delete():
                point_ids = job.point_ids
            case Patch() if isinstance(job.point_ids, list):
                point_ids = job.point_ids
            case Purge() | Patch() | Prune():
                self._users.add(job.user_id)
                return
        self._db.executemany("INSERT OR IGNORE INTO touched VALUES (?)", [(key_of(one),) for one in point_ids])
