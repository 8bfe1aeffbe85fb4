"""A request of which nobody knows how it ended: nothing behind it is sent while it may still be applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, WriteJob, encode_job
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.lease import Lease
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, Events, running
from tests.integration.jobs import LIMITS, axis, memory
from tests.integration.leases import acquire_lease, give_back
from tests.integration.proxies import Call, QdrantProxy, Refusal, Rule

UPDATE = "Points/UpdateBatch"
SETTLE_S = 1.0
REQUEST_S = 0.2

MakeDrainer = Callable[..., Drainer]


class LateEngine:
    """A rule: the first batch gets no answer, and is applied only when the test says so. All others pass."""

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
        """Apply the batch that was held: its caller has gone."""
        await asyncio.to_thread(self._points.UpdateBatch, self.held)


@pytest.fixture
def late(qdrant_proxy: QdrantProxy, qdrant_channel: grpc.Channel) -> LateEngine:
    rule = qdrant_proxy.rules[UPDATE] = LateEngine(qdrant_channel)
    return rule


@pytest.fixture
def drainer(redis: Redis, keys: Keys, proxied_store: VectorStore) -> MakeDrainer:
    """Make a drainer of a queue of one partition, as another worker has it."""

    def make(**options: Any) -> Drainer:
        quick = {"request_timeout_s": REQUEST_S, "settle_s": SETTLE_S, "retry": RetryPolicy(base_s=0.01, max_s=0.01)}
        chosen = DrainOptions(**{"partitions": 1, "limits": LIMITS, **quick, **options})
        return Drainer(redis, keys, proxied_store, chosen)

    return make


@pytest.fixture
def pushed(redis: Redis, keys: Keys) -> Callable[..., Any]:
    async def do(*jobs: WriteJob) -> None:
        await push(redis, keys, 1, [(0, encode_job(job)) for job in jobs])

    return do


@pytest.fixture
async def ready(proxied_store: VectorStore) -> None:
    """Make the collections, so that the first batch is the first request."""
    await proxied_store.prepare()


async def asked_for(redis: Redis, keys: Keys) -> Lease | None:
    return await acquire_lease(redis, keys, 0, ttl_s=8, partitions=1)


async def settled(redis: Redis, keys: Keys) -> None:
    """Return once the lease has ended by itself."""
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        while (left_ms := await redis.pttl(keys.lease(0))) >= 0:  # noqa: ASYNC110  # there is no signal for it
            await asyncio.sleep(max(1, left_ms) / 1000)


def refuse(refusal: Refusal) -> Rule:
    async def rule(call: Call) -> Any:
        raise refusal

    return rule


@pytest.mark.usefixtures("ready")
class TestAppliedLate:
    async def test_what_stands_behind_it_is_the_last_word(
        self,
        drainer: MakeDrainer,
        pushed: Any,
        late: LateEngine,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        await pushed(memory(1, 1), memory(1, 2, value="old"))
        assert (await drainer().drain(0)).ending == "outage"
        await pushed(Delete(user_id=1, point_ids=["mem_1_1"]), memory(1, 2, value="new"))

        # Were they drained now, the writes that are still on their way would undo them.
        assert (await drainer().drain(0)).ending == "busy"
        await late.finish()
        assert engine.points(shape.memories) == {"mem_1_1", "mem_1_2"}

        await settled(redis, keys)
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 4)
        assert {point: payload["value"] for point, payload in engine.payloads(shape.memories).items()} == {
            "mem_1_2": "new"
        }
        assert not await redis.exists(keys.lease(0))

    async def test_of_a_drain_that_was_cancelled(
        self,
        drainer: MakeDrainer,
        pushed: Any,
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
        await settled(redis, keys)
        assert (await drainer().drain(0)).ending == "empty"
        assert engine.points(shape.memories) == set()

    async def test_as_a_whole_worker_does_it(
        self,
        settings: Callable[..., Settings],
        queue: MemoryQueue,
        late: LateEngine,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
        events: Events,
    ) -> None:
        """It rings again by itself, and the sweeper does not ring while it settles."""
        chosen = settings(qdrant_url=qdrant_proxy.url, qdrant_timeout_s=0.3, rescue_interval_s=0.05)
        async with running(chosen, role="ingest"):
            await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            [outage] = await events.wait_for("outage")
            assert outage["retry_in_s"] >= DrainOptions(partitions=1, limits=LIMITS).settle_s
            receipt = await queue.delete(user_id=1, point_id="mem_1_1")
            await late.finish()
            assert engine.points(shape.memories) == {"mem_1_1"}
            await queue.wait_applied(receipt)
        assert engine.points(shape.memories) == set()


@pytest.mark.usefixtures("ready")
class TestLease:
    async def test_nobody_has_it_until_the_request_has_settled(
        self, drainer: MakeDrainer, pushed: Any, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        await pushed(memory(1, 1))
        for code in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"):
            qdrant_proxy.rules[UPDATE] = refuse(Refusal(grpc.StatusCode[code], "Socket closed"))
            outage = await drainer(settle_s=30).drain(0)
            assert (outage.ending, outage.wake_after_s) == ("outage", 30), code
            assert await asked_for(redis, keys) is None, code
            assert 8_000 < await redis.pttl(keys.lease(0)) <= 30_000, code
            await redis.delete(keys.lease(0))  # as if it had ended by itself
            lease = await asked_for(redis, keys)
            assert lease is not None, code
            assert not await redis.exists(keys.attempts(0))  # the drain before has ended, if not well
            await give_back(redis, keys, lease)

    async def test_the_next_has_it_at_once_when_it_is_known_that_nothing_was_applied(
        self, drainer: MakeDrainer, pushed: Any, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        await pushed(memory(1, 1))
        for refusal in (
            Refusal(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: UNKNOWN"),
            Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED),
            Refusal(grpc.StatusCode.UNAUTHENTICATED),
            Refusal(grpc.StatusCode.NOT_FOUND),
            Refusal(grpc.StatusCode.INVALID_ARGUMENT),
        ):
            qdrant_proxy.rules[UPDATE] = refuse(refusal)
            outage = await drainer().drain(0)
            assert outage.ending == "outage", refusal.code
            assert outage.wake_after_s is not None
            assert outage.wake_after_s <= 0.01, refusal.code
            lease = await asked_for(redis, keys)
            assert lease is not None, refusal.code
            await give_back(redis, keys, lease)

    async def test_a_lease_that_was_lost_meanwhile_is_left_to_its_holder(
        self, drainer: MakeDrainer, pushed: Any, late: LateEngine, redis: Redis, keys: Keys
    ) -> None:
        await pushed(memory(1, 1))
        draining = asyncio.create_task(drainer().drain(0))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await late.reached.wait()
        await redis.set(keys.lease(0), "a successor's token", px=60_000)
        assert (await draining).ending == "outage"
        assert await redis.get(keys.lease(0)) == b"a successor's token"
        assert await redis.pttl(keys.lease(0)) > 30_000
