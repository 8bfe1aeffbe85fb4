"""The collections on disk: one Edge shard each, its configuration beside it.

aliases.json                       the collection of each alias
collections/<name>/config.json     there once the collection exists, gone first when it is deleted
collections/<name>/shard/          what Edge stores
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

# Edge keeps what it was given since the last flush in its log, and applies that again when it opens a shard after a
# kill: 16,384 points take it more than a second. Nothing else is done during a flush, so it comes once so many points
# have been written, or nobody writes any more; and its files are written to the disk before it, while all else goes on:
# without that, 8,192 points took 0.17 to 0.24 s where they take 0.07 to 0.17 s.
FLUSH_EVERY_POINTS = 8_192
FLUSH_IDLE_S = 2.0
_LOOK_EVERY_S = 0.25


class Collection:
    """One collection. Updates take turns; reads run beside them, and first where the ``way`` is given to them."""

    def __init__(
        self, name: str, directory: Path, config: q.CollectionConfig, shard: edge.EdgeShard, way: ReadPriority
    ) -> None:
        self.name = name
        self.shard = shard
        self.way = way
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
        """The configuration as a server reports it."""
        return self._config

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._config.params.vectors_config.params.size)

    def update(self, operation: edge.UpdateOperation, points: int = 1) -> int:
        """Apply an operation that writes about ``points`` points; return its number. It is durable on return."""
        with self.in_order():
            if self._closed:
                raise no_collection(self.name)
            self.shard.update(operation)
            self._unflushed_points += points
            self._changed_at = time.monotonic()
            if self._is_on_disk or self._unflushed_points >= 2 * FLUSH_EVERY_POINTS:
                self.flush()
            return next(self._operation_ids)

    def flush(self) -> None:
        """Write out what has been applied since the last time."""
        with self.in_order():
            if self._unflushed_points and not self._closed:
                self.shard.flush()
                self._unflushed_points = 0
                self._is_on_disk = False

    def prepare_flush(self) -> None:
        """Write the files to the disk if a flush is due, beside all else; flush at once if nobody writes now.

        Otherwise the next update flushes: it has its turn.
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
        """Keep other writers out for the length of the block: the operations of a batch belong together."""
        self.way.forgo()
        with self._updating:
            yield

    def reconfigure(self, config: q.CollectionConfig) -> None:
        """Store another configuration, to be reported from now on."""
        with self.in_order():
            if self._closed:
                raise no_collection(self.name)
            _store_config(self._directory, config)
            self._config = config

    def close(self) -> None:
        """Flush and close the shard, after an update in flight."""
        with self._updating:
            if not self._closed:
                self._closed = True
                self.shard.close()

    def delete(self) -> None:
        """Close the shard and remove it from the disk."""
        with self._updating:
            (self._directory / "config.json").unlink()
            _sync_directory(self._directory)
        self.close()
        shutil.rmtree(self._directory)


class Shards:
    """All collections of a data directory, opened."""

    def __init__(self, directory: Path, *, optimize: bool = False) -> None:
        """Open every collection under ``directory``; ``optimize`` rebuilds them first, which may take minutes."""
        self.way = ReadPriority()
        self._directory = directory
        self._changing = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self.aliases = Aliases(directory.parent / "aliases.json")
        self._collections = {
            collection.name: collection
            for path in sorted(directory.iterdir())
            if (collection := _opened(path, self.way))
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
        """Create a collection, whole or not at all."""
        with self._changing:
            if name in self._collections:
                raise collection_exists(name)
            if name in self.aliases:
                raise alias_exists(name)
            directory = self._directory / _directory_name(name)
            shutil.rmtree(directory, ignore_errors=True)  # left by a creation or a deletion that was killed
            (directory / "shard").mkdir(parents=True)
            shard = edge.EdgeShard.create(str(directory / "shard"), edge_config(config))
            _store_config(directory, config)
            _sync_directory(self._directory)
            self._collections[name] = Collection(name, directory, config, shard, self.way)

    def delete(self, name: str) -> bool:
        """Delete a collection by its own name, and its aliases; return whether there was one."""
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
        while not self._closing.wait(_LOOK_EVERY_S):
            for collection in list(self._collections.values()):
                try:
                    collection.prepare_flush()
                except BaseException:  # noqa: BLE001 - a panic inside Edge is one; the log of what came has it all
                    traceback.print_exc()

    def close(self) -> None:
        """Flush and close all collections."""
        self._closing.set()
        self._flushing.join()
        with self._changing:
            for collection in self._collections.values():
                collection.close()


def _opened(directory: Path, way: ReadPriority) -> Collection | None:
    try:
        text = (directory / "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        shutil.rmtree(directory)
        return None
    config = json_format.Parse(text, q.CollectionConfig())
    shard = edge.EdgeShard.load(str(directory / "shard"), edge_config(config))
    return Collection(unquote(directory.name), directory, config, shard, way)


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
    """Write all files below ``directory`` to the disk, as far as they are there long enough."""
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
