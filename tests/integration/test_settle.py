"""A request without an answer: no later job of its partition is sent while it may still be applied."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.integration.conftest import (
    SIGNAL_TIMEOUT_S,
    Contents,
    Events,
    MakeDrainer,
    MakeSettings,
    Push,
    running,
)
from tests.integration.jobs import LIMITS, axis, memory
from tests.integration.leases import acquire_lease, give_back, held_lease
from tests.integration.proxies import UPDATE, Call, QdrantProxy, failing


class LateEngine:
    """A rule: the first batch gets no answer, and is applied by `finish`. All others are forwarded."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._points = q.PointsStub(channel)
        self.held: Any = None
        self.reached = asyncio.Event()

    async def __call__(self, call: Call) -> Any:
        if self.held is not None:
            return await call.forward()
        self.held = call.request
        self.reached.set()
        return await asyncio.Event().wait()

    async def finish(self) -> None:
        """Apply the batch that was held, after its caller has given up."""
        await asyncio.to_thread(self._points.UpdateBatch, self.held)


@pytest.fixture
def late(qdrant_proxy: QdrantProxy, qdrant_channel: grpc.Channel) -> LateEngine:
    rule = qdrant_proxy.rules[UPDATE] = LateEngine(qdrant_channel)
    return rule


@pytest.fixture
def drainer(drainer: MakeDrainer) -> MakeDrainer:
    """Make a drainer of another worker, with a short timeout."""
    quick = {"request_timeout_s": 0.2, "settle_s": 30, "retry": RetryPolicy(base_s=0.01, max_s=0.01)}
    return lambda **options: drainer(**{**quick, **options})


@pytest.fixture
async def ready(proxied_store: VectorStore) -> None:
    """Make the collections, so that the first request is the first batch."""
    await proxied_store.prepare()


async def expire(redis: Redis, keys: Keys) -> None:
    """Let the lease expire, which has lasted until the request must have settled."""
    assert 8_000 < await redis.pttl(keys.lease(0)) <= 30_000
    await redis.delete(keys.lease(0))


@pytest.mark.usefixtures("ready")
class TestAppliedLate:
    async def test_later_jobs_are_applied_after_a_late_request(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        late: LateEngine,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        await pushed(memory(1, 1), memory(1, 2, value="old"))
        assert (await drainer().drain(0)).ending == "outage"
        await pushed(Delete(user_id=1, point_ids=["mem_1_1"]), memory(1, 2, value="new"))

        # If they were drained now, the request that is still in flight would undo them.
        assert (await drainer().drain(0)).ending == "busy"
        await late.finish()
        assert engine.points(shape.base("memory")) == {"mem_1_1", "mem_1_2"}

        await expire(redis, keys)
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 4)
        assert {point: payload["value"] for point, payload in engine.payloads(shape.base("memory")).items()} == {
            "mem_1_2": "new"
        }
        assert not await redis.exists(keys.lease(0))

    async def test_the_same_holds_if_the_drain_was_cancelled(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        late: LateEngine,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        await pushed(memory(1, 1))
        draining = asyncio.create_task(drainer(request_timeout_s=5).drain(0))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await late.reached.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        await pushed(Delete(user_id=1, point_ids=["mem_1_1"]))
        assert (await drainer().drain(0)).ending == "busy"
        await late.finish()
        await expire(redis, keys)
        assert (await drainer().drain(0)).ending == "empty"
        assert engine.points(shape.base("memory")) == set()

    async def test_a_worker_waits_for_a_late_request_and_then_goes_on(
        self,
        settings: MakeSettings,
        queue: MemoryQueue,
        late: LateEngine,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
        events: Events,
    ) -> None:
        """It is not woken by the rescue of partitions while the request settles."""
        chosen = settings(qdrant_url=qdrant_proxy.url, qdrant_timeout_s=0.3, rescue_interval_s=0.05)
        async with running(chosen, role="ingest"):
            await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            [outage] = await events.wait_for("batch_failed")
            assert outage["retry_in_s"] >= DrainOptions(partitions=1, limits=LIMITS).settle_s
            receipt = await queue.delete(user_id=1, point_id="mem_1_1")
            await late.finish()
            assert engine.points(shape.base("memory")) == {"mem_1_1"}
            await queue.wait_applied(receipt)
        assert engine.points(shape.base("memory")) == set()


@pytest.mark.usefixtures("ready")
class TestLease:
    async def test_the_lease_is_kept_until_the_request_has_settled(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        await pushed(memory(1, 1))
        for code in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"):
            qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode[code], "Socket closed")
            outage = await drainer().drain(0)
            assert (outage.ending, outage.wake_after_s) == ("outage", 30), code
            assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=1) is None, code
            await expire(redis, keys)
            lease = await held_lease(redis, keys, partitions=1)
            assert not await redis.exists(keys.attempts(0))  # because the drain before has ended
            await give_back(redis, keys, lease)

    async def test_the_lease_is_given_back_at_once_if_nothing_was_applied(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        await pushed(memory(1, 1))
        for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "NOT_FOUND", "INVALID_ARGUMENT"):
            qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode[code], "failed to connect to all addresses")
            outage = await drainer().drain(0)
            assert outage.ending == "outage", code
            assert outage.wake_after_s is not None
            assert outage.wake_after_s <= 0.01, code
            await give_back(redis, keys, await held_lease(redis, keys, partitions=1))
