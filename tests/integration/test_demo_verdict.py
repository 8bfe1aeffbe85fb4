"""The verdict of the demo reads a real engine, and names each point that somebody has changed there."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from memory_worker.contract import Upsert
from memory_worker.contract.kinds import KINDS
from memory_worker.demo.dataset import DIMENSION, load
from memory_worker.demo.requests import requests_for
from memory_worker.demo.verdict import compare, read_all, wanted_after
from memory_worker.embedded.engines import start_edge
from memory_worker.store.operations import CollectionRef, DeletePoints, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")


def as_stored(write: Upsert) -> Upsert:
    """Return a write with the fields that a worker adds."""
    return replace(write, payload={**write.payload, "user_id": write.user_id, "_point_id": write.point_id})


async def test_it_names_what_was_changed_behind_its_back(quick_directory: Path) -> None:
    wanted = wanted_after(requests_for(load()).in_order())
    writes = [as_stored(write) for write in wanted.there.values()]
    first, second, *_ = memories = [write for write in writes if write.kind == "memory"]
    chunk, *_ = documents = [write for write in writes if write.kind == "document"]
    shape = CollectionShape(kinds=KINDS, dimension=DIMENSION)
    with start_edge(quick_directory / "demo") as edge:
        async with VectorStore(edge.url, shape) as store:
            await store.apply(MEMORIES, [UpsertPoints(tuple(memories))], timeout_s=30)
            await store.apply(DOCUMENTS, [UpsertPoints(tuple(documents))], timeout_s=30)
            assert compare(wanted, read_all(edge.url)).wrong == 0

            changed = replace(second, vector=first.vector)
            back = as_stored(replace(first, point_id=f"mem_{first.user_id}_999"))
            await store.apply(MEMORIES, [UpsertPoints((changed, back))], timeout_s=30)
            await store.apply(DOCUMENTS, [DeletePoints((chunk.point_id,))], timeout_s=30)
        verdict = compare(wanted, read_all(edge.url))
    assert verdict.missing == [chunk.point_id]
    assert verdict.outdated == [second.point_id]
    assert verdict.unwanted == [back.point_id]
