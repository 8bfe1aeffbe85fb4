"""The number of partitions and the limits that workers publish for producers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs
from redis.asyncio import Redis

from memory_worker.client import producer
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Upsert
from memory_worker.contract.errors import InvalidJob, PartitionMismatch
from memory_worker.contract.kind_specs import KindSpec, kinds_of
from memory_worker.contract.kinds import KINDS, Kinds
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.scripts import scripts
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything
from tests.integration.jobs import PARTITIONS


def with_dimension(dimension: int, kinds: Kinds = KINDS) -> Kinds:
    """Return kinds as they are published: each with its dimension."""
    return {name: replace(kind, dimension=kind.dimension or dimension) for name, kind in kinds.items()}


META = QueueMeta(
    partitions=PARTITIONS,
    limits=Limits(dimension=8, max_job_bytes=2_000, kinds=with_dimension(8)),
    max_jobs=100,
    max_bytes=10_000,
)
CUSTOM = kinds_of(
    {
        "memory": KindSpec(dimension=16),
        "document": KindSpec(),
        "note": KindSpec(
            collection="notes",
            id_prefix="note",
            dimension=3,
            distance="dot",
            user_ids="string",
            namespaces=True,
            fields={"open": "bool", "created": "int"},
            filter={"open": True},
            defaults={"open": True},
            search_limit=3,
        ),
    }
)


async def publish_as_before_kinds(redis: Redis, keys: Keys, dimension: int) -> None:
    """Publish limits as a worker does that does not know kinds."""
    fields = ["dimension", dimension, "max_job_bytes", 2_000, "max_jobs", 100, "max_bytes", 10_000]
    await scripts.run(redis, "publish", [keys.meta, keys.since], [PARTITIONS, 0, *fields])


async def test_an_unknown_queue_has_no_limits(redis: Redis, keys: Keys) -> None:
    assert await read_meta(redis, keys) is None


async def test_published_limits_are_read(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, META)
    assert await read_meta(redis, keys) == META


async def test_limits_are_changed_and_removed(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, META)
    limits = Limits(dimension=16, kinds=with_dimension(16))
    changed = QueueMeta(partitions=PARTITIONS, limits=limits, max_jobs=7, max_bytes=0)
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


async def test_each_kind_is_published_with_its_dimension(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, kinds=CUSTOM)))
    found = await read_meta(redis, keys)
    assert found is not None
    assert found.limits == Limits(dimension=None, kinds=with_dimension(8, CUSTOM))
    assert not await redis.hexists(keys.meta, "dimension")


async def test_a_dimension_that_all_kinds_share_is_published_for_older_producers(redis: Redis, keys: Keys) -> None:
    kinds = {**CUSTOM, "memory": KINDS["memory"], "note": replace(CUSTOM["note"], dimension=8)}
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, kinds=kinds)))
    assert await redis.hget(keys.meta, "dimension") == b"8"


async def test_without_published_kinds_the_built_in_ones_are_used(redis: Redis, keys: Keys) -> None:
    await publish_as_before_kinds(redis, keys, 8)
    found = await read_meta(redis, keys)
    assert found is not None
    assert found.limits == Limits(dimension=8, max_job_bytes=2_000)


@pytest.mark.parametrize(
    "published", [b"", b"\x81\xa4note", b"[]", b'{"note": {"collection": "notes"}}', b'{"memory": {"color": "red"}}']
)
async def test_published_kinds_that_cannot_be_read_are_ignored(redis: Redis, keys: Keys, published: bytes) -> None:
    await publish_meta(redis, keys, META)
    await redis.hset(keys.meta, "kinds", published)
    found = await read_meta(redis, keys)
    assert found is not None
    assert found.limits == Limits(dimension=8, max_job_bytes=2_000)


async def test_a_worker_that_does_not_know_kinds_leaves_the_published_ones(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, kinds=CUSTOM)))
    await publish_as_before_kinds(redis, keys, 8)
    found = await read_meta(redis, keys)
    assert found is not None
    assert found.limits.kinds == with_dimension(8, CUSTOM)
    assert {name: found.limits.dimension_of(kind) for name, kind in found.limits.kinds.items()} == {
        "memory": 16,
        "document": 8,
        "note": 3,
    }


async def test_a_producer_checks_configured_kinds_and_follows_changes(
    redis: Redis, keys: Keys, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "_META_FRESH_S", 0.0)  # a refusal reads the limits again
    user = "anna@example.org"
    note = Upsert(kind="note", user_id=user, point_id=f"note_{user}_1", vector=[3.0, 0.0, 4.0])
    await publish_as_before_kinds(redis, keys, 8)
    with pytest.raises(InvalidJob, match="kind: 'note' is none of memory, document"):
        await queue.push_many([note])
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, kinds=CUSTOM)))
    await queue.push_many([note])
    for job, problem in (
        (Upsert(user_id=7, point_id="mem_7_1", vector=[1.0] * 8), "vector: expected 16 dimensions .*, got 8"),
        (Upsert(kind="note", user_id=7, point_id="note_7_1", vector=[1.0] * 3), "'note' has string user ids, got 7"),
        (structs.replace(note, payload={"open": 1}), "payload.open: expected a boolean, got an integer"),
    ):
        with pytest.raises(InvalidJob, match=problem):
            await queue.push_many([job])
    changed = {**CUSTOM, "note": replace(CUSTOM["note"], dimension=4)}
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=8, kinds=changed)))
    await queue.push_many([structs.replace(note, vector=[3.0, 0.0, 4.0, 0.0])])
    with pytest.raises(InvalidJob, match=r"vector: expected 4 dimensions .*, got 3"):
        await queue.push_many([note])
