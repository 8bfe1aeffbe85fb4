"""The number of partitions and the limits that workers publish for producers."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from memory_worker.contract import Limits
from memory_worker.contract.errors import PartitionMismatch
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything
from tests.integration.jobs import PARTITIONS

META = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, max_job_bytes=2_000), max_jobs=100, max_bytes=10_000)


async def test_an_unknown_queue_has_no_limits(redis: Redis, keys: Keys) -> None:
    assert await read_meta(redis, keys) is None


async def test_published_limits_are_read(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, META)
    assert await read_meta(redis, keys) == META


async def test_limits_are_changed_and_removed(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, META)
    changed = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=16), max_jobs=7, max_bytes=0)
    await publish_meta(redis, keys, changed)
    assert await read_meta(redis, keys) == changed
    assert not await redis.hexists(keys.meta, "max_bytes")


async def test_the_number_of_partitions_cannot_be_changed(redis: Redis, keys: Keys, everything: Everything) -> None:
    await publish_meta(redis, keys, META)
    before = await everything()
    with pytest.raises(PartitionMismatch) as mismatch:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS * 2, max_jobs=1))
    assert (mismatch.value.wanted, mismatch.value.actual) == (PARTITIONS * 2, PARTITIONS)
    assert await everything() == before


async def test_a_producer_may_push_before_the_limits_are_published(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"a")])
    assert await read_meta(redis, keys) == QueueMeta(partitions=PARTITIONS)
    await publish_meta(redis, keys, META)
    assert await read_meta(redis, keys) == META
