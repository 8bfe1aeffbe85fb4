"""The worker as a whole: it starts, goes on whatever happens to its servers, and stops with grace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, Events, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis, bodies, memory
from tests.integration.proxies import Call, QdrantProxy, Refusal

MakeSettings = Callable[..., Settings]
UPDATE = "Points/UpdateBatch"


class Quarantine:
    """A rule that holds calls until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, call: Call) -> Any:
        self.reached.set()
        await self.opened.wait()
        return await call.forward()


async def unavailable(call: Call) -> Any:
    raise Refusal(grpc.StatusCode.UNAVAILABLE)


async def unreachable(call: Call) -> Any:
    """Fail in gRPC's own words for a request that was never sent."""
    raise Refusal(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")


class TestStart:
    async def test_it_publishes_the_limits(self, app: WorkerProcess, redis: Redis, keys: Keys) -> None:
        meta = await read_meta(redis, keys)
        assert meta is not None
        assert (meta.partitions, meta.limits) == (PARTITIONS, LIMITS)
        assert (meta.max_jobs, meta.max_bytes) == (1_000_000, 4_294_967_296)

    async def test_another_number_of_partitions(self, settings: MakeSettings, redis: Redis, keys: Keys) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS + 1, limits=LIMITS))
        with pytest.raises(PartitionMismatch):
            await WorkerProcess(settings(), "all").run()

    async def test_a_collection_of_another_dimension(
        self, settings: MakeSettings, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.memories, size=16)
        with pytest.raises(ConfigurationError, match="dimension 16"):
            await WorkerProcess(settings(), "all").run()

    async def test_no_redis(self, settings: MakeSettings) -> None:
        with pytest.raises(QueueUnavailable):
            await WorkerProcess(settings(redis_url=SecretStr("redis://127.0.0.1:1"), redis_timeout_s=1), "all").run()

    async def test_roles(self, settings: MakeSettings, queue: MemoryQueue) -> None:
        async with running(settings(), role="search"):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            assert await queue.search(user_id=1, vector=axis(0)) == []
            with pytest.raises(NotApplied):
                await queue.wait_applied(receipt, timeout=0.2)
        async with running(settings(), role="ingest"):
            await queue.wait_applied(receipt)


class TestStop:
    async def test_work_in_flight_is_finished(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        quarantine = qdrant_proxy.rules[UPDATE] = Quarantine()
        async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest") as app, asyncio.timeout(10):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await quarantine.reached.wait()
            app.stop()
            quarantine.opened.set()
        await queue.wait_applied(receipt, timeout=0.05)
        assert not await redis.exists(keys.lease(receipt.partition))

    async def test_a_search_in_flight_is_answered(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy
    ) -> None:
        quarantine = qdrant_proxy.rules["Points/Query"] = Quarantine()
        async with running(settings(qdrant_url=qdrant_proxy.url), role="search") as app, asyncio.timeout(10):
            searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0)))
            await quarantine.reached.wait()
            app.stop()
            quarantine.opened.set()
            assert await searching == []

    async def test_what_does_not_finish_in_time_is_left_for_others(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        quarantine = qdrant_proxy.rules[UPDATE] = Quarantine()
        chosen = settings(qdrant_url=qdrant_proxy.url, worker_grace_s=0.2)
        async with running(chosen, role="ingest") as app, asyncio.timeout(10):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await quarantine.reached.wait()
            app.stop()
        assert await redis.xlen(keys.stream(receipt.partition)) == 1
        # What was cut off may still be applied; others begin once it has settled, long before the lease would end.
        assert await redis.pttl(keys.lease(receipt.partition)) <= 1000 * drain_options(chosen).settle_s

        qdrant_proxy.rules.clear()
        async with running(chosen, role="ingest"):
            await queue.wait_applied(receipt)

    async def test_what_it_no_longer_takes_is_rung_for_others(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        quarantine = qdrant_proxy.rules[UPDATE] = Quarantine()
        chosen = settings(qdrant_url=qdrant_proxy.url, batch_max_jobs=1)
        async with running(chosen, role="ingest") as app, asyncio.timeout(10):
            first = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await quarantine.reached.wait()
            second = await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))
            app.stop()
            quarantine.opened.set()
        await queue.wait_applied(first, timeout=0.05)
        assert await redis.xlen(keys.stream(second.partition)) == 1
        assert await redis.zscore(keys.drain_queue, keys.drain_job_id(second.partition)) is not None


class TestSweeper:
    async def test_an_entry_that_nobody_was_woken_for(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events
    ) -> None:
        async with running(settings(rescue_interval_s=0.05), role="ingest"):
            # As if the worker that was rung had been killed with the job's definition in its hands.
            entry_id = await redis.xadd(keys.stream(0), {"v": "1", "j": encode_job(memory(4, 1))})
            await queue.wait_applied(Receipt(0, entry_id.decode()))
            assert events.of("rescued")

    async def test_a_partition_of_a_killed_worker(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        [(partition, body)] = bodies(memory(4, 1))
        [receipt] = await push(redis, keys, PARTITIONS, [(partition, body)])
        await redis.set(keys.lease(partition), "of the killed one", px=500)
        await redis.set(keys.arq_in_progress(keys.drain_job_id(partition)), "1", px=300_000)
        async with running(settings(rescue_interval_s=0.05), role="ingest"):
            await queue.wait_applied(receipt)


class TestPartitions:
    """Somebody changes the number of partitions under a worker: it ends, for it would only seem to live."""

    @pytest.mark.parametrize("role", ["ingest", "search"])
    async def test_it_ends_and_no_job_dies(
        self, settings: MakeSettings, redis: Redis, keys: Keys, events: Events, role: Any
    ) -> None:
        ready = asyncio.Event()
        app = asyncio.create_task(WorkerProcess(settings(rescue_interval_s=0.05), role).run(on_ready=ready.set))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await ready.wait()
            await redis.hset(keys.meta, "partitions", 2 * PARTITIONS)
            jobs = [(partition_of(user_id, 2 * PARTITIONS), encode_job(memory(user_id, 1))) for user_id in range(1, 40)]
            await push(redis, keys, 2 * PARTITIONS, jobs)
            with pytest.raises(PartitionMismatch, match=f"is {PARTITIONS}, but this Redis holds a queue of 8"):
                await app
        assert sum([await redis.xlen(keys.stream(partition)) for partition in range(2 * PARTITIONS)]) == len(jobs)
        assert not events.of("dead_letter")


class TestRedis:
    @pytest.fixture
    def chosen(self, settings: MakeSettings, tmp_path: Path) -> Callable[..., Settings]:
        """Make settings for a Redis of this test's own."""

        def make(url: str, **overrides: Any) -> Settings:
            return settings(redis_url=SecretStr(url), redis_timeout_s=2, rescue_interval_s=0.1, **overrides)

        return make

    async def test_dropped_connections(self, chosen: Callable[..., Settings], keys: Keys, tmp_path: Path) -> None:
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

    async def test_a_restart(self, chosen: Callable[..., Settings], keys: Keys, tmp_path: Path, events: Events) -> None:
        valkey = start_valkey(tmp_path)
        port = urlsplit(valkey.url).port
        try:
            async with (
                MemoryQueue.connect(valkey.url, prefix=keys.prefix) as queue,
                running(chosen(valkey.url)),
            ):
                await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
                await asyncio.to_thread(valkey.stop)
                await events.wait_for("role_restarts", times=2)
                assert {fields["role"] for fields in events.of("role_restarts")} == {"ingest", "search"}
                valkey = await asyncio.to_thread(start_valkey, tmp_path, port=port)
                receipt = await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))
                await queue.wait_applied(receipt, timeout=15)
                assert len(await queue.search(user_id=1, vector=axis(0), timeout=15)) == 2
        finally:
            valkey.stop()

    async def test_a_redis_that_an_outage_of_qdrant_has_filled(
        self, chosen: Callable[..., Settings], keys: Keys, tmp_path: Path, qdrant_proxy: QdrantProxy, events: Events
    ) -> None:
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
                await events.wait_for("outage")
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
        async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest"):
            qdrant_proxy.rules[UPDATE] = unreachable
            receipts = [
                await queue.upsert(user_id=user_id, point_id=f"mem_{user_id}_1", vector=axis(0))
                for user_id in range(1, 9)
            ]
            first, *others = await events.wait_for("outage", times=12)  # those that failed together count once
            assert max(outage["retry_in_s"] for outage in others) > 2 * first["retry_in_s"]
            qdrant_proxy.rules.clear()
            await asyncio.gather(*map(queue.wait_applied, receipts))
        assert len(engine.points(shape.memories)) == 8
        assert not events.of("dead_letter")

    async def test_it_may_be_down_at_the_start(
        self, settings: MakeSettings, queue: MemoryQueue, qdrant_proxy: QdrantProxy, events: Events
    ) -> None:
        qdrant_proxy.rules["Collections/Get"] = unavailable
        async with running(settings(qdrant_url=qdrant_proxy.url)):
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            await events.wait_for("outage")
            qdrant_proxy.rules.clear()
            await queue.wait_applied(receipt)


async def test_two_workers_share_a_queue(
    settings: MakeSettings, queue: MemoryQueue, shape: CollectionShape, engine: Contents
) -> None:
    users, rounds, points = range(1, 9), 12, 3
    started = time.monotonic()
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
        assert time.monotonic() - started < SIGNAL_TIMEOUT_S
    stored = {point: payload["round"] for point, payload in engine.payloads(shape.memories).items()}
    last = {round_ % points: round_ for round_ in range(rounds)}
    assert stored == {f"mem_{user_id}_{at}": round_ for user_id in users for at, round_ in last.items()}
