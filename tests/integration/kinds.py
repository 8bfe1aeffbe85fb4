"""A store with the kinds of `tests.unit.plan_world`, and its content in the form of the oracle there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from qdrant_client import grpc as q

from memory_worker.contract.kinds import with_collections
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.store.values import payload_of
from tests.integration.conftest import API_KEY, Contents
from tests.unit.plan_world import KINDS, NEW, REFS, VALUES, World

WITHOUT_INDEX = tuple(name for name in VALUES if not any(name in kind.indexes for kind in KINDS.values()))
"""The fields to which others may write values of any type, so that all engines treat them alike.

1.0 is 1 in an index but not in a payload, and a text is different from 1 in a payload but not in an index.
"""


@asynccontextmanager
async def opened(url: str, channel: grpc.Channel) -> AsyncIterator[VectorStore]:
    """Open a store with new collections, which are deleted afterwards.

    They were made by others, so that they may have points under integer ids.
    """
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    kinds = with_collections(KINDS, {name: f"{prefix}-{name}" for name in KINDS})
    shape = CollectionShape(kinds=kinds, dimension=1)
    for ref in REFS:
        Contents(channel).create(shape.name(ref), size=1)
    async with VectorStore(url, shape, api_key=API_KEY) as store:
        await store.prepare()
        for ref in REFS:
            await store.collections.ensure(ref)
        yield store
    stub = q.CollectionsStub(channel)
    for found in stub.List(q.ListCollectionsRequest()).collections:
        if found.name.startswith(prefix):
            stub.Delete(q.DeleteCollection(collection_name=found.name))


async def insert(engine: Contents, store: VectorStore, world: World) -> None:
    """Write points as others do."""
    for ref, points in world.items():
        for key, payload in points.items():
            await asyncio.to_thread(engine.insert, store.collections.name(ref), key, [1.0], **payload)


def read(engine: Contents, store: VectorStore) -> World:
    """Return the stored points without empty collections."""
    names, world = engine.names(), World()
    for ref in (*REFS, NEW):
        if (name := store.collections.name(ref)) in names:
            world[ref] = {point.id.uuid or point.id.num: payload_of(point.payload) for point in engine.whole(name)}
    return {ref: points for ref, points in world.items() if points}
