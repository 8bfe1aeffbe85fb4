"""The ledger of a comparison: temporary SQLite tables, so that millions of points take little memory.

    wanted      the points of the manifest
    stored      the points of the collection. Of those that differ, what the second read has found
    before      the orphans of the last run
    findings    the differences that are reported

All tables are sorted by UUID, so that they are joined in one pass.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from memory_worker.contract.errors import ConfigurationError
from memory_worker.contract.kinds import primary_id

Finding = Literal["missing", "orphaned", "stale"]
Value = int | float | str | None

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE lines (uuid BLOB, point_id TEXT, updated, hash TEXT, line INTEGER);
CREATE TABLE wanted (uuid BLOB PRIMARY KEY, point_id TEXT, updated, hash TEXT) WITHOUT ROWID;
CREATE TABLE stored (uuid BLOB PRIMARY KEY, point_id TEXT, updated, hash TEXT) WITHOUT ROWID;
CREATE TABLE before (uuid BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE candidates (uuid BLOB PRIMARY KEY, point_id TEXT) WITHOUT ROWID;
CREATE TABLE findings (
    uuid BLOB PRIMARY KEY, point_id TEXT, finding TEXT, expected, found, partition INTEGER, user_id TEXT
) WITHOUT ROWID;
CREATE VIEW differences AS
SELECT w.uuid, w.point_id, 'missing' AS finding, coalesce(w.updated, w.hash) AS expected, NULL AS found
FROM wanted w LEFT JOIN stored s ON s.uuid = w.uuid WHERE s.uuid IS NULL
UNION ALL
SELECT s.uuid, s.point_id, 'orphaned', NULL, coalesce(s.updated, s.hash)
FROM stored s LEFT JOIN wanted w ON w.uuid = s.uuid WHERE w.uuid IS NULL
UNION ALL
SELECT w.uuid, w.point_id, 'stale', w.updated, s.updated
FROM wanted w JOIN stored s ON s.uuid = w.uuid
WHERE w.updated IS NOT NULL AND (s.updated IS NULL OR s.updated < w.updated)
UNION ALL
SELECT w.uuid, w.point_id, 'stale', w.hash, s.hash
FROM wanted w JOIN stored s ON s.uuid = w.uuid
WHERE w.hash IS NOT NULL AND w.hash IS NOT s.hash
AND NOT (w.updated IS NOT NULL AND (s.updated IS NULL OR s.updated < w.updated));
"""


class Difference(msgspec.Struct, frozen=True):
    """A point that differs. ``expected`` is from the manifest, and ``found`` from the payload."""

    point_id: str
    finding: Finding
    expected: Value
    found: Value


class Orphan(msgspec.Struct, frozen=True):
    """An orphan of this run and of the last one."""

    partition: int
    user_id: str
    point_id: str


class Ledger:
    """The tables, in a directory that is removed after the run.

    Methods may be called from any thread, one at a time.
    """

    def __init__(self, directory: Path) -> None:
        self._db = sqlite3.connect(directory / "ledger.db", check_same_thread=False, isolation_level=None)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_wanted(self, rows: Iterable[tuple[str, Value, Value, int]]) -> None:
        """Add lines of the manifest: point id, updated, hash, and the number of the line."""
        self._many(
            "INSERT INTO lines VALUES (?, ?, ?, ?, ?)",
            ((key_of(point_id), point_id, updated, hashed, line) for point_id, updated, hashed, line in rows),
        )

    def sort_wanted(self) -> int:
        """Sort the manifest. Return its size. Raises `ConfigurationError` if it has a point twice."""
        try:
            self._db.execute("INSERT INTO wanted SELECT uuid, point_id, updated, hash FROM lines ORDER BY uuid")
        except sqlite3.IntegrityError:
            twice = "SELECT point_id, min(line), max(line) FROM lines GROUP BY uuid HAVING count(*) > 1 ORDER BY 3"
            point_id, first, last = self._db.execute(twice).fetchone()
            message = f"line {last} of the manifest: {point_id!r} is also on line {first}"
            raise ConfigurationError(message) from None
        self._db.execute("DELETE FROM lines")
        return self._count("wanted")

    def add_stored(self, rows: Iterable[tuple[str, Value, Value]], *, older: bool = False) -> None:
        """Add stored points: point id, updated, hash. An ``older`` copy of a point does not replace another copy."""
        self._many(
            f"INSERT OR {'IGNORE' if older else 'REPLACE'} INTO stored VALUES (?, ?, ?, ?)",  # noqa: S608
            ((key_of(point_id), point_id, updated, hashed) for point_id, updated, hashed in rows),
        )

    def remove_stored(self, point_ids: Iterable[str]) -> None:
        """Remove points that are read again."""
        self._many("DELETE FROM stored WHERE uuid = ?", ((key_of(point_id),) for point_id in point_ids))

    def add_before(self, point_ids: Iterable[str]) -> None:
        """Add orphans of the last run."""
        self._many("INSERT OR IGNORE INTO before VALUES (?)", ((key_of(point_id),) for point_id in point_ids))

    def find_candidates(self) -> int:
        """Compare manifest and collection. Return how many points differ."""
        self._db.execute("INSERT INTO candidates SELECT uuid, point_id FROM differences")
        return self._count("candidates")

    def candidates(self, page: int) -> Iterator[list[str]]:
        """Yield the ids of the points that differ, page by page."""
        return self._pages("SELECT point_id FROM candidates ORDER BY uuid", page)

    def settle(self, judge: Callable[[bytes, str], tuple[int, str] | None]) -> None:
        """Compare again, and keep the differences for which ``judge`` returns the partition and the user."""
        cursor = self._db.execute("SELECT uuid, point_id, finding, expected, found FROM differences")
        while rows := cursor.fetchmany(1000):
            judged = ((row, judge(row[0], row[1])) for row in rows)
            kept = [(*row, *place) for row, place in judged if place is not None]
            self._many("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?)", kept)

    def findings(self) -> Iterator[Difference]:
        """Yield the differences that are reported."""
        for row in self._db.execute("SELECT point_id, finding, expected, found FROM findings ORDER BY uuid"):
            yield Difference(*row)

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each type."""
        return dict(self._db.execute("SELECT finding, count(*) FROM findings GROUP BY finding").fetchall())

    def orphans_of_both_runs(self) -> Iterator[Orphan]:
        """Yield the orphans that the last run has seen, too, by partition and user."""
        query = (
            "SELECT f.partition, f.user_id, f.point_id FROM findings f JOIN before b ON b.uuid = f.uuid "
            "WHERE f.finding = 'orphaned' ORDER BY f.partition, f.user_id"
        )
        for row in self._db.execute(query):
            yield Orphan(*row)

    def _pages(self, query: str, page: int) -> Iterator[list[str]]:
        cursor = self._db.execute(query)
        while rows := cursor.fetchmany(page):
            yield [point_id for (point_id,) in rows]

    def _count(self, table: str) -> int:
        (count,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(count)

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(statement, rows)
        self._db.execute("COMMIT")


def key_of(point_id: str) -> bytes:
    """Return the UUID of a point as 16 bytes."""
    return UUID(primary_id(point_id)).bytes
