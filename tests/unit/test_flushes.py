"""When the embedded engine writes out what it has applied: nothing else is done meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from qdrant_client import grpc as q

pytest.importorskip("qdrant_edge")

from worker.embedded.right_of_way import RightOfWay
from worker.embedded.shards import FLUSH_EVERY_POINTS, Collection


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
def collection(shard: Shard) -> Collection:
    return Collection("c", Path(), q.CollectionConfig(), cast("Any", shard), RightOfWay())


def test_never_while_others_write(collection: Collection, shard: Shard) -> None:
    for _ in range(10):
        collection.update(cast("Any", None), 16)
        collection.flush_if_idle()
    assert shard.flushes == 0


def test_once_in_a_pause(collection: Collection, shard: Shard) -> None:
    collection.update(cast("Any", None), 16)
    for _ in range(5):
        collection.flush_if_idle()
    assert shard.flushes == 1
    collection.update(cast("Any", None), 16)
    collection.flush_if_idle()
    assert shard.flushes == 1
    collection.flush_if_idle()
    assert shard.flushes == 2


def test_after_so_many_points_in_any_case(collection: Collection, shard: Shard) -> None:
    for _ in range(3):
        collection.update(cast("Any", None), FLUSH_EVERY_POINTS // 2)
        collection.flush_if_idle()
    assert shard.flushes == 1
    collection.update(cast("Any", None), FLUSH_EVERY_POINTS // 2)
    assert shard.flushes == 2
