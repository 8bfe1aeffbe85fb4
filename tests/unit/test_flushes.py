"""When the embedded engine flushes: a flush blocks everything else, so it waits for a pause or for many points."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from qdrant_client import grpc as q

pytest.importorskip("qdrant_edge")

from memory_worker.embedded.read_priority import ReadPriority
from memory_worker.embedded.shards import FLUSH_EVERY_POINTS, FLUSH_IDLE_S, Collection


class Shard:
    """Counts its flushes."""

    def __init__(self) -> None:
        self.flushes = 0

    def update(self, operation: Any) -> None: ...

    def flush(self) -> None:
        self.flushes += 1


@pytest.fixture
def shard() -> Shard:
    return Shard()


@pytest.fixture
def collection(shard: Shard, tmp_path: Path) -> Collection:
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard" / "vectors").write_bytes(b"x")
    return Collection("c", tmp_path, q.CollectionConfig(), cast("Any", shard), ReadPriority())


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the time pass after which the collection counts as idle."""

    def do() -> None:
        later = time.monotonic() + FLUSH_IDLE_S
        monkeypatch.setattr("memory_worker.embedded.shards.time.monotonic", lambda: later)

    return do


def write(collection: Collection, points: int) -> None:
    collection.update(cast("Any", None), points)


def test_no_flush_during_small_writes(collection: Collection, shard: Shard) -> None:
    for _ in range(10):
        write(collection, 16)
        collection.prepare_flush()
    assert shard.flushes == 0


def test_one_flush_in_a_pause(collection: Collection, shard: Shard, pause: Callable[[], None]) -> None:
    write(collection, 16)
    pause()
    for _ in range(5):
        collection.prepare_flush()
    assert shard.flushes == 1


def test_a_flush_with_the_next_update_once_the_files_are_on_the_disk(collection: Collection, shard: Shard) -> None:
    write(collection, FLUSH_EVERY_POINTS)
    assert shard.flushes == 0
    collection.prepare_flush()
    assert shard.flushes == 0
    write(collection, 1)
    assert shard.flushes == 1
    write(collection, 1)
    collection.prepare_flush()
    write(collection, 1)
    assert shard.flushes == 1


def test_a_flush_before_too_many_points_are_unflushed(collection: Collection, shard: Shard) -> None:
    write(collection, 2 * FLUSH_EVERY_POINTS - 1)
    assert shard.flushes == 0
    write(collection, 1)
    assert shard.flushes == 1


def test_a_file_that_disappears_does_not_fail_a_flush(
    collection: Collection, shard: Shard, tmp_path: Path, pause: Callable[[], None]
) -> None:
    (tmp_path / "shard" / "gone").symlink_to(tmp_path / "nowhere")
    write(collection, 16)
    pause()
    collection.prepare_flush()
    assert shard.flushes == 1
