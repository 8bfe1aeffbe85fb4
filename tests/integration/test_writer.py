"""One batch for several collections: its requests are sent together, and the worst of their errors counts."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract.errors import StoreRefused, StoreUnavailable
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.request_gate import RequestGate
from memory_worker.ingest.writer import LeasedWriter
from memory_worker.queue.lease import LeaseState
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.integration.conftest import Contents
from tests.integration.jobs import LIMITS, chunk, memory
from tests.integration.leases import held_lease
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, never_answer

JOBS = [memory(1, 1), chunk(1, 1, 1)]


class Barrier:
    """A rule that forwards a call once another one has arrived, too."""

    def __init__(self) -> None:
        self._barrier = asyncio.Barrier(2)

    async def __call__(self, call: Call) -> Any:
        await self._barrier.wait()
        return await call.forward()


@pytest.fixture
def writer(redis: Redis, keys: Keys, proxied_store: VectorStore) -> LeasedWriter:
    options = DrainOptions(partitions=1, limits=LIMITS, request_timeout_s=2)
    return LeasedWriter(redis, keys, proxied_store, options, RequestGate(0, lambda: False))


async def test_the_requests_of_a_batch_are_sent_together(
    writer: LeasedWriter, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy, engine: Contents, shape: CollectionShape
) -> None:
    lease = await held_lease(redis, keys, partitions=1)
    qdrant_proxy.rules[UPDATE] = Barrier()
    await writer.write([lease], JOBS)
    assert lease.state is LeaseState.HELD
    assert all(engine.points(kind.collection) for kind in shape.kinds.values())


@pytest.mark.parametrize(
    ("refused", "error", "state"),
    [(False, StoreUnavailable, LeaseState.IN_DOUBT), (True, StoreRefused, LeaseState.HELD)],
    ids=["in doubt", "refused"],
)
async def test_the_worst_error_counts(
    writer: LeasedWriter,
    redis: Redis,
    keys: Keys,
    qdrant_proxy: QdrantProxy,
    shape: CollectionShape,
    refused: bool,
    error: type[Exception],
    state: LeaseState,
) -> None:
    """A refusal says which jobs to try again. It must not hide that another request may still be applied."""

    async def rule(call: Call) -> Any:
        if call.request.collection_name == shape.kinds["document"].collection:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT)
        return await (call.forward() if refused else never_answer(call))

    lease = await held_lease(redis, keys, partitions=1)
    qdrant_proxy.rules[UPDATE] = rule
    with pytest.raises(error):
        await writer.write([lease], JOBS)
    assert lease.state is state
