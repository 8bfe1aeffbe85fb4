"""The collections on disk. Each is one Edge shard and its configuration.

aliases.json                       the collection of each alias
collections/<name>/config.json     exists exactly while the collection exists
collections/<name>/shard/          the files of Edge
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import qdrant_edge as edge
from google.protobuf import json_format
from qdrant_client import grpc as q

from memory_worker.embedded.aliases import Aliases
from memory_worker.embedded.read_priority import ReadPriority
from memory_worker.embedded.refusals import alias_exists, collection_exists, no_collection
from memory_worker.embedded.schema import edge_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# After a kill, Edge applies the updates since the last flush again. For 16,384 points this takes over a second. But
# all calls wait during a flush. So it comes once this many points were written, or once writes have stopped. Before it,
# the files are written to the disk without blocking calls: then flushes of 8,192 points took 0.07 to 0.17 s instead of
# 0.17 to 0.24 s.
FLUSH_EVERY_POINTS = 8_192
FLUSH_IDLE_S = 2.0
_CHECK_EVERY_S = 0.25


class Collection:
    """One collection. Updates run one at a time. Reads run at any time, with read priority."""

    def __init__(
        self, name: str, directory: Path, config: q.CollectionConfig, shard: edge.EdgeShard, read_priority: ReadPriority
    ) -> None:
        self.name = name
        self.shard = shard
        self.read_priority = read_priority
        self._directory = directory
        self._config = config
        self._updating = threading.RLock()
        self._closed = False
        self._operation_ids = itertools.count()
        self._unflushed_points = 0
        self._is_on_disk = False
        self._changed_at = time.monotonic()

    @property
    def config(self) -> q.CollectionConfig:
        """The configuration, as a server reports it."""
        return self._config

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""
        return int(self._config.params.vectors_config.params.size)

    def next_operation_id(self) -> int:
        """Return the number of a new operation."""
        return next(self._operation_ids)

    def update(self, operation: edge.UpdateOperation, points: int = 1) -> None:
        """Apply an operation that writes about ``points`` points. On return it is durable."""
        with self.in_order():
            if self._closed:
                raise no_collection(self.name)
            self.shard.update(operation)
            self._unflushed_points += points
            self._changed_at = time.monotonic()
            if self._is_on_disk or self._unflushed_points >= 2 * FLUSH_EVERY_POINTS:
                self.flush()

    def flush(self) -> None:
        """Flush the updates since the last flush."""
        with self.in_order():
            if self._unflushed_points and not self._closed:
                self.shard.flush()
                self._unflushed_points = 0
                self._is_on_disk = False

    def prepare_flush(self) -> None:
        """If a flush is due, write the files to the disk, without blocking other calls.

        Then flush if writes have stopped. Otherwise the next update flushes.
        """
        is_idle = time.monotonic() - self._changed_at >= FLUSH_IDLE_S
        if not (self._unflushed_points >= FLUSH_EVERY_POINTS or (is_idle and self._unflushed_points)):
            return
        _write_to_disk(self._directory)
        self._is_on_disk = True
        if is_idle:
            self.flush()

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """Block other updates for the duration of the block, so that a batch is not interrupted."""
        self.read_priority.drop()
        with self._updating:
            yield

    def reconfigure(self, config: q.CollectionConfig) -> None:
        """Replace the configuration."""
        with self.in_order():
            if self._closed:
                raise no_collection(self.name)
            _store_config(self._directory, config)
            self._config = config

    def close(self) -> None:
        """Flush and close the shard, after the running update."""
        with self._updating:
            if not self._closed:
                self._closed = True
                self.shard.close()

    def delete(self) -> None:
        """Close the shard and delete its files."""
        with self._updating:
            (self._directory / "config.json").unlink()
            _sync_directory(self._directory)
        self.close()
        shutil.rmtree(self._directory)


class Shards:
    """All collections of a data directory, opened."""

    def __init__(self, directory: Path, *, optimize: bool = False) -> None:
        """Open each collection in ``directory``. ``optimize`` rebuilds their indexes first, which may take minutes."""
        self.read_priority = ReadPriority()
        self._directory = directory
        self._changing = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self.aliases = Aliases(directory.parent / "aliases.json")
        self._collections = {
            collection.name: collection
            for path in sorted(directory.iterdir())
            if (collection := _opened(path, self.read_priority))
        }
        if optimize:
            for collection in self._collections.values():
                collection.shard.optimize()
        self._closing = threading.Event()
        self._flushing = threading.Thread(target=self._prepare_flushes, name="flush", daemon=True)
        self._flushing.start()

    def __getitem__(self, name: str) -> Collection:
        """Return a collection by its name or by an alias."""
        target = self.aliases.target(name)
        try:
            return self._collections[target]
        except KeyError:
            raise no_collection(target) from None

    def __contains__(self, name: str) -> bool:
        return self.aliases.target(name) in self._collections

    def names(self) -> list[str]:
        """Return the names of all collections."""
        return sorted(self._collections)

    def create(self, name: str, config: q.CollectionConfig) -> None:
        """Create a collection. If this is interrupted, it does not exist."""
        with self._changing:
            if name in self._collections:
                raise collection_exists(name)
            if name in self.aliases:
                raise alias_exists(name)
            directory = self._directory / _directory_name(name)
            shutil.rmtree(directory, ignore_errors=True)  # left by an interrupted creation or deletion
            (directory / "shard").mkdir(parents=True)
            shard = edge.EdgeShard.create(str(directory / "shard"), edge_config(config))
            _store_config(directory, config)
            _sync_directory(self._directory)
            self._collections[name] = Collection(name, directory, config, shard, self.read_priority)

    def delete(self, name: str) -> bool:
        """Delete a collection, by its own name, and its aliases. Say whether it existed."""
        with self._changing:
            self.aliases.forget(name)
            collection = self._collections.pop(name, None)
            if collection is not None:
                collection.delete()
            return collection is not None

    def change_aliases(self, actions: Iterable[q.AliasOperations]) -> None:
        """Create, rename and delete aliases."""
        with self._changing:
            self.aliases.change(actions, self._collections)

    def _prepare_flushes(self) -> None:
        while not self._closing.wait(_CHECK_EVERY_S):
            for collection in list(self._collections.values()):
                try:
                    collection.prepare_flush()
                except BaseException:  # noqa: BLE001 - such as a panic inside Edge; its log still has all updates
                    traceback.print_exc()

    def close(self) -> None:
        """Flush and close all collections."""
        self._closing.set()
        self._flushing.join()
        with self._changing:
            for collection in self._collections.values():
                collection.close()


def _opened(directory: Path, read_priority: ReadPriority) -> Collection | None:
    try:
        text = (directory / "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        shutil.rmtree(directory)
        return None
    config = json_format.Parse(text, q.CollectionConfig())
    shard = edge.EdgeShard.load(str(directory / "shard"), edge_config(config))
    return Collection(unquote(directory.name), directory, config, shard, read_priority)


def _directory_name(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


def _store_config(directory: Path, config: q.CollectionConfig) -> None:
    unfinished = directory / "config.json.new"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(json_format.MessageToJson(config))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(directory / "config.json")
    _sync_directory(directory)


def _write_to_disk(directory: Path) -> None:
    """Write all files below ``directory`` to the disk. Skip files that disappear during that time."""
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                descriptor = os.open(Path(parent, name), os.O_RDONLY)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    with suppress(OSError):  # not every file system can sync a directory
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
