"""The client's patches, prunes, replaced files and narrowed purges, through a worker and an engine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from memory_worker.client import producer
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Prune, Upsert, decode_write
from memory_worker.contract.errors import PushedInPart, QueueFull
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration.conftest import Contents
from tests.integration.jobs import LIMITS, PARTITIONS, axis, chunk, memory


class Chunk(msgspec.Struct):
    """A chunk as an app may keep it."""

    point_id: str
    vector: Any
    payload: dict[str, Any] | None = None


def chunk_map(number: int, **payload: Any) -> dict[str, Any]:
    return {"point_id": f"doc_1_5_{number}", "vector": axis(number), "payload": payload}


async def test_a_patch_changes_the_points_of_its_target(
    app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
) -> None:
    await queue.push_many(
        [
            *(memory(1, 1, category="a"), memory(1, 2, category="b"), memory(1, 2, category="b", namespace="n")),
            *(chunk(1, 5, 0, group_key="g"), chunk(1, 6, 0, group_key="g"), chunk(1, 7, 0)),
        ]
    )
    await queue.patch(user_id=1, point_id="mem_1_1", set={"value": "by id"}, unset=["category"])
    await queue.patch(user_id=1, point_ids=("mem_1_2", "mem_1_9"), namespace="*", set={"active": False})
    await queue.patch(user_id=1, category="b", set={"source": "by category"})
    await queue.patch(user_id=1, file_id=5, set={"group_key": "h"})
    receipt = await queue.patch(user_id=1, group_key="g", set={"text": "by group"})
    await queue.wait_applied(receipt)

    memories = engine.payloads(shape.base("memory"))
    assert (memories["mem_1_1"]["value"], "category" in memories["mem_1_1"]) == ("by id", False)
    assert (memories["mem_1_2"]["active"], memories["mem_1_2"]["source"]) == (False, "by category")
    in_namespace = engine.payloads(f"{shape.base('memory')}_n")["mem_1_2"]
    assert (in_namespace["active"], "source" in in_namespace) == (False, False)
    documents = engine.payloads(shape.base("document"))
    found = {point_id: (fields.get("group_key"), fields.get("text")) for point_id, fields in documents.items()}
    assert found == {"doc_1_5_0": ("h", None), "doc_1_6_0": ("g", "by group"), "doc_1_7_0": (None, None)}


async def test_a_replaced_file_has_the_new_chunks_only(
    app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
) -> None:
    old = [chunk_map(number, text="old") for number in range(4)]
    other = await queue.replace_file(user_id=1, file_id=6, version=1, chunks=[Chunk("doc_1_6_0", axis(0))])
    await queue.replace_file(user_id=1, file_id=5, version=1, chunks=old)
    new: list[Any] = [
        {**chunk_map(1, text="new", _version=2, file_id=5), "user_id": 1},
        Chunk("doc_1_5_7", axis(7), {"text": "new"}),
        Upsert(user_id=1, kind="document", point_id="doc_1_5_8", vector=axis(0), payload={"text": "new"}),
    ]
    receipts = await queue.replace_file(user_id=1, file_id=5, version=2, chunks=iter(new))
    assert (len(other), len(receipts)) == (2, 4)
    await queue.wait_applied(receipts[-1])
    documents = engine.payloads(shape.base("document"))
    assert {name: fields.get("text") for name, fields in documents.items()} == {
        **dict.fromkeys(("doc_1_5_1", "doc_1_5_7", "doc_1_5_8"), "new"),
        "doc_1_6_0": None,
    }
    assert {(fields["file_id"], fields["_version"]) for fields in documents.values()} == {(5, 2), (6, 1)}

    [pruned] = await queue.replace_file(user_id=1, file_id=5, version=3, chunks=[])
    await queue.wait_applied(pruned)
    assert engine.points(shape.base("document")) == {"doc_1_6_0"}
    await queue.wait_applied(await queue.prune(user_id=1, file_id=6, version=1))
    assert engine.points(shape.base("document")) == {"doc_1_6_0"}
    await queue.wait_applied(await queue.prune(user_id=1, file_id=6, version=2))
    assert engine.points(shape.base("document")) == set()


async def test_conditions_of_a_purge_and_a_delete_in_all_namespaces(
    app: WorkerProcess, queue: MemoryQueue, shape: CollectionShape, engine: Contents
) -> None:
    await queue.push_many(
        [
            *(memory(1, 1, created=10), memory(1, 2, created=20), memory(1, 3, embedding_model_id=42)),
            *(memory(1, 4, embedding_model_id=7), memory(1, 5), memory(1, 5, namespace="n")),
        ]
    )
    await queue.purge(user_id=1, kind="memory", before=20)
    await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_5", namespace="*"))
    assert engine.points(shape.base("memory")) == {"mem_1_2", "mem_1_3", "mem_1_4"}
    assert engine.points(f"{shape.base('memory')}_n") == set()
    await queue.wait_applied(await queue.purge(user_id=1, other_than_model=42))
    assert "mem_1_3" in engine.points(shape.base("memory"))
    assert "mem_1_4" not in engine.points(shape.base("memory"))


async def stored_jobs(redis: Redis, keys: Keys) -> list[Any]:
    return [
        decode_write(fields[b"j"])
        for partition in range(PARTITIONS)
        for _, fields in await redis.xrange(keys.stream(partition))
    ]


async def test_every_method_sends_ref_and_notify(queue: MemoryQueue, redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
    marked: dict[str, Any] = {"user_id": 1, "ref": "r", "notify": True}
    await queue.upsert(point_id="mem_1_1", vector=axis(0), **marked)
    await queue.upsert_many([{"point_id": "mem_1_1", "vector": axis(0), **marked}])
    await queue.patch(point_id="mem_1_1", set={"value": "x"}, **marked)
    await queue.delete(point_id="mem_1_1", **marked)
    await queue.purge(**marked)
    await queue.prune(file_id=5, version=1, **marked)
    assert [(job.ref, job.notify) for job in await stored_jobs(redis, keys)] == [("r", True)] * 6

    await queue.replace_file(file_id=5, version=1, chunks=[chunk_map(0)], **marked)
    *_, upsert, prune = await stored_jobs(redis, keys)
    assert (type(upsert), upsert.ref, upsert.notify) == (Upsert, "r", False)
    assert (type(prune), prune.ref, prune.notify) == (Prune, "r", True)


async def test_a_file_that_is_stored_in_part_can_be_pushed_again(
    queue: MemoryQueue, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "PUSH_MAX_JOBS", 2)
    limited = QueueMeta(partitions=PARTITIONS, limits=LIMITS, max_jobs=3)
    await publish_meta(redis, keys, limited)
    file: dict[str, Any] = {"user_id": 1, "file_id": 5, "version": 1, "chunks": [chunk_map(n) for n in range(4)]}
    with pytest.raises(PushedInPart) as partly:
        await queue.replace_file(**file)
    assert isinstance(partly.value.__cause__, QueueFull)
    assert [type(job) for job in await stored_jobs(redis, keys)] == [Upsert, Upsert]
    await redis.hdel(keys.meta, "max_jobs")
    assert len(await queue.replace_file(**file)) == 5
