"""The whole worker: it starts, survives the failures of its servers, and finishes its work before it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, Upsert, encode_job, partition_of
from memory_worker.contract.errors import ConfigurationError, NotApplied, PartitionMismatch, QueueUnavailable
from memory_worker.embedded.engines import start_valkey
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.runtime.wiring import drain_options
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import (
    SIGNAL_TIMEOUT_S,
    Contents,
    Events,
    MakeSettings,
    connected,
    running,
    started,
)
from tests.integration.jobs import LIMITS, PARTITIONS, axis, bodies, memory
from tests.integration.proxies import UPDATE, Call, Hold, QdrantProxy, failing, unavailable

unreachable = failing(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
"""Fail with gRPC's own message for a request that was never sent."""


class TestStart:
    async def test_a_worker_with_another_number_of_partitions_does_not_start(
        self, settings: MakeSettings, redis: Redis, keys: Keys
    ) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS + 1, limits=LIMITS))
        with pytest.raises(PartitionMismatch):
            await WorkerProcess(settings(), "all").run()

    async def test_a_worker_with_another_dimension_than_its_collection_does_not_start(
        self, settings: MakeSettings, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"), size=16)
        with pytest.raises(ConfigurationError, match="dimension 16"):
            await WorkerProcess(settings(), "all").run()

    async def test_a_worker_does_the_work_of_its_role_only(self, settings: MakeSettings, queue: MemoryQueue) -> None:
        async with running(settings(), role="search"):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            assert await queue.search(user_id=1, vector=axis(0)) == []
            with pytest.raises(NotApplied):
                await queue.wait_applied(receipt, timeout=0.2)
        async with running(settings(), role="ingest"):
            await queue.wait_applied(receipt)


class TestStop:
    async def test_a_batch_in_flight_is_finished(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        hold = qdrant_proxy.rules[UPDATE] = Hold()
        async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest") as app, asyncio.timeout(10):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await hold.reached.wait()
            app.stop()
            hold.release()
        await queue.wait_applied(receipt, timeout=0.05)
        assert not await redis.exists(keys.lease(receipt.partition))

    async def test_a_search_in_flight_is_answered(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy
    ) -> None:
        hold = qdrant_proxy.rules["Points/Query"] = Hold()
        async with running(settings(qdrant_url=qdrant_proxy.url), role="search") as app, asyncio.timeout(10):
            searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0)))
            await hold.reached.wait()
            app.stop()
            hold.release()
            assert await searching == []

    async def test_a_batch_that_is_not_finished_in_time_is_left_to_another_worker(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        hold = qdrant_proxy.rules[UPDATE] = Hold()
        chosen = settings(qdrant_url=qdrant_proxy.url, worker_grace_s=0.2)
        async with running(chosen, role="ingest") as app, asyncio.timeout(10):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await hold.reached.wait()
            app.stop()
        assert await redis.xlen(keys.stream(receipt.partition)) == 1
        # The request may still be applied. Another worker starts once it has settled, before the lease would expire.
        assert await redis.pttl(keys.lease(receipt.partition)) <= 1000 * drain_options(chosen).settle_s

        qdrant_proxy.rules.clear()
        async with running(chosen, role="ingest"):
            await queue.wait_applied(receipt)

    async def test_jobs_that_a_stopping_worker_leaves_wake_another_one(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        hold = qdrant_proxy.rules[UPDATE] = Hold()
        chosen = settings(qdrant_url=qdrant_proxy.url, batch_max_jobs=1)
        async with running(chosen, role="ingest") as app, asyncio.timeout(10):
            first = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await hold.reached.wait()
            second = await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))
            app.stop()
            hold.release()
        await queue.wait_applied(first, timeout=0.05)
        assert await redis.xlen(keys.stream(second.partition)) == 1
        assert await redis.zscore(keys.drain_queue, keys.drain_job_id(second.partition)) is not None


async def test_slow_small_batches_do_not_hold_up_others(
    settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, shape: CollectionShape
) -> None:
    held: asyncio.Queue[None] = asyncio.Queue()
    go_on = asyncio.Event()

    async def hold_memories(call: Call) -> Any:
        if call.request.collection_name == shape.base("memory"):
            held.put_nowait(None)
            await go_on.wait()
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = hold_memories
    async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest"), asyncio.timeout(SIGNAL_TIMEOUT_S):
        first, second, other = (
            next(user for user in range(1, 100) if partition_of(user, PARTITIONS) == partition)
            for partition in range(3)
        )
        for user in (first, second):  # one batch each
            await queue.upsert(user_id=user, point_id=f"mem_{user}_1", vector=axis(0))
            await held.get()
        chunk = {"kind": "document", "point_id": f"doc_{other}_1_0", "payload": {"file_id": 1}}
        await queue.wait_applied(await queue.upsert(user_id=other, vector=axis(0), **chunk))
        go_on.set()


class TestRescue:
    async def test_an_entry_without_a_wakeup_is_applied(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events
    ) -> None:
        async with running(settings(rescue_interval_s=0.05), role="ingest"):
            # As if the worker that was woken had been killed.
            entry_id = await redis.xadd(keys.stream(0), {"v": "1", "j": encode_job(memory(4, 1))})
            await queue.wait_applied(Receipt(0, entry_id.decode()))
            assert events.of("rescued")

    async def test_a_partition_of_a_killed_worker_is_drained(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        [(partition, body)] = bodies(memory(4, 1))
        [receipt] = await push(redis, keys, PARTITIONS, [(partition, body)])
        await redis.set(keys.lease(partition), "of the killed one", px=500)
        await redis.set(keys.arq_in_progress(keys.drain_job_id(partition)), "1", px=300_000)
        async with running(settings(rescue_interval_s=0.05), role="ingest"):
            await queue.wait_applied(receipt)


class TestPartitions:
    """A worker ends when the number of partitions changes, because it could do no work any more."""

    @pytest.mark.parametrize("role", ["ingest", "search"])
    async def test_the_worker_ends_and_no_job_becomes_a_dead_letter(
        self, settings: MakeSettings, redis: Redis, keys: Keys, events: Events, role: Any
    ) -> None:
        _, task = await started(settings(rescue_interval_s=0.05), role)
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await redis.hset(keys.meta, "partitions", 2 * PARTITIONS)
            jobs = [(partition_of(user_id, 2 * PARTITIONS), encode_job(memory(user_id, 1))) for user_id in range(1, 40)]
            await push(redis, keys, 2 * PARTITIONS, jobs)
            with pytest.raises(PartitionMismatch, match=f"is {PARTITIONS}, but this Redis holds a queue of 8"):
                await task
        assert sum([await redis.xlen(keys.stream(partition)) for partition in range(2 * PARTITIONS)]) == len(jobs)
        assert not events.of("dead_letter")


class TestRedis:
    @pytest.fixture
    def chosen(self, settings: MakeSettings, tmp_path: Path) -> Callable[..., Settings]:
        """Make settings for a Redis of the test."""

        def make(url: str, **overrides: Any) -> Settings:
            return settings(redis_url=SecretStr(url), redis_timeout_s=2, rescue_interval_s=0.1, **overrides)

        return make

    async def test_dropped_connections_are_replaced(
        self, chosen: Callable[..., Settings], keys: Keys, tmp_path: Path
    ) -> None:
        with start_valkey(tmp_path) as valkey:
            async with (
                connected(valkey.url) as redis,
                MemoryQueue.connect(valkey.url, prefix=keys.prefix) as queue,
                running(chosen(valkey.url)),
            ):
                for number in range(5):
                    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    receipt = await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(0))
                    await queue.wait_applied(receipt, timeout=15)
                    assert len(await queue.search(user_id=1, vector=axis(0), limit=100, timeout=15)) == number + 1

    async def test_a_redis_that_is_full_is_emptied_by_drains(
        self, chosen: Callable[..., Settings], keys: Keys, tmp_path: Path, qdrant_proxy: QdrantProxy, events: Events
    ) -> None:
        """It was filled during an outage of Qdrant. Pushes are refused until jobs have been applied."""
        qdrant_proxy.rules[UPDATE] = unavailable
        with start_valkey(tmp_path) as valkey:
            async with (
                connected(valkey.url) as redis,
                MemoryQueue.connect(valkey.url, prefix=keys.prefix) as queue,
                running(chosen(valkey.url, qdrant_url=qdrant_proxy.url), role="ingest"),
            ):
                big = {"x": "x" * 50_000}
                points = [Upsert(user_id=1, point_id=f"mem_1_{n}", vector=axis(0), payload=big) for n in range(40)]
                receipts = await queue.push_many(points)
                await events.wait_for("batch_failed")
                used = (await redis.info("memory"))["used_memory"]
                await redis.config_set("maxmemory", used - 500_000)
                with pytest.raises(QueueUnavailable):
                    await queue.push_many(points[:1])
                qdrant_proxy.rules.clear()
                await queue.wait_applied(receipts[-1], timeout=15)


class TestQdrant:
    async def test_an_outage_delays_and_loses_nothing(
        self,
        settings: MakeSettings,
        queue: MemoryQueue,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
        events: Events,
    ) -> None:
        async with running(settings(qdrant_url=qdrant_proxy.url, retry_base_s=0.02, retry_max_s=0.2), role="ingest"):
            qdrant_proxy.rules[UPDATE] = unreachable
            receipts = [
                await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_1", vector=axis(0))
                for user_id in range(1, 9)
            ]
            first, *others = await events.wait_for("batch_failed", times=12)  # drains that fail together count once
            assert max(outage["retry_in_s"] for outage in others) > 2 * first["retry_in_s"]
            qdrant_proxy.rules.clear()
            await asyncio.gather(*map(queue.wait_applied, receipts))
        assert len(engine.points(shape.base("memory"))) == 8
        assert not events.of("dead_letter")

    async def test_a_worker_starts_while_qdrant_is_down(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, events: Events
    ) -> None:
        qdrant_proxy.rules["Collections/Get"] = unavailable
        async with running(settings(qdrant_url=qdrant_proxy.url)):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await events.wait_for("batch_failed")
            qdrant_proxy.rules.clear()
            await queue.wait_applied(receipt)


async def test_two_workers_share_a_queue(
    settings: MakeSettings, queue: MemoryQueue, shape: CollectionShape, engine: Contents
) -> None:
    users, rounds, points = range(1, 9), 12, 3
    async with running(settings(batch_max_jobs=5)), running(settings(batch_max_jobs=5)):
        receipts = []
        for round_ in range(rounds):
            receipts += await queue.upsert_many(
                {
                    "user_id": user_id,
                    "point_id": f"mem_{user_id}_{round_ % points}",
                    "vector": axis(round_),
                    "payload": {"round": round_},
                }
                for user_id in users
            )
        await asyncio.gather(*(queue.wait_applied(receipt, timeout=SIGNAL_TIMEOUT_S) for receipt in receipts))
    stored = {point: payload["round"] for point, payload in engine.payloads(shape.base("memory")).items()}
    last = {round_ % points: round_ for round_ in range(rounds)}
    assert stored == {f"mem_{user_id}_{at}": round_ for user_id in users for at, round_ in last.items()}
