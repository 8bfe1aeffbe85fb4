"""The metrics count what a worker does, and a producer cannot add series to them."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

import grpc
import msgspec
import pytest
from prometheus_client.exposition import generate_latest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Purge, Upsert, encode_job, partition_of
from memory_worker.contract.errors import NotApplied, ReadFailed
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.contract.read_jobs import READ_OPS
from memory_worker.queue.log import JobLog
from memory_worker.telemetry.metrics import READ_OUTCOMES, REASONS, REGISTRY, UNKNOWN
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import PARTITIONS, axis, chunk, memory
from tests.integration.leases import held_lease, reading
from tests.integration.proxies import UPDATE, Call, QdrantProxy, failing, refusing, unavailable
from tests.tools import arq_client

USER = 4  # of partition 0

Series = tuple[str, tuple[tuple[str, str], ...]]


def series() -> dict[Series, float]:
    """Return the value of every series."""
    return {
        (sample.name.removeprefix("memory_worker_"), tuple(sorted(sample.labels.items()))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
    }


class Counted:
    """Counts by how much the series have grown since this object was made."""

    def __init__(self) -> None:
        self._before = series()

    def of(self, name: str, **labels: str) -> float:
        """Return by how much all series with this name and these labels have grown together."""
        return sum(
            value - self._before.get((found, of), 0.0)
            for (found, of), value in series().items()
            if found == name and labels.items() <= dict(of).items()
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the growth of each series that has grown, by these labels."""
        grown = collections.Counter[tuple[str, ...]]()
        for (found, of), value in series().items():
            if found == name:
                grown[tuple(dict(of)[label] for label in labels)] += value - self._before.get((found, of), 0.0)
        return {key: more for key, more in grown.items() if more}

    def new(self) -> set[Series]:
        return series().keys() - self._before.keys()


def now(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"memory_worker_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


class TestWrites:
    async def test_each_job_is_counted_once_by_its_outcome(
        self,
        counted: Counted,
        settings: MakeSettings,
        queue: MemoryQueue,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refusing(f"mem_{USER}_3")
        jobs = [
            memory(USER, 1),
            memory(USER, 2),
            chunk(USER, 5, 0),
            Delete(user_id=USER, point_ids=[f"mem_{USER}_1", f"mem_{USER}_2"]),
            Purge(user_id=USER, kind="memory"),
            Purge(user_id=USER),
            memory(USER, 3),
            Upsert(user_id=USER, point_id=f"mem_{USER}_9", vector=b"short"),
            Upsert(user_id=1, point_id="mem_1_1", vector=axis(0)),  # of another partition
        ]
        bodies = [*map(encode_job, jobs), b"\xc1 no job"]
        async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest"):
            receipts = await push(redis, keys, PARTITIONS, [(0, body) for body in bodies])
            last = await queue.upsert(user_id=USER, point_id=f"mem_{USER}_4", vector=axis(0))
            await queue.wait_applied(last)

        assert counted.by("jobs_total", "op", "kind", "outcome") == {
            ("upsert", "memory", "applied"): 3,
            ("upsert", "document", "applied"): 1,
            ("delete", "memory", "applied"): 1,
            ("purge", "memory", "applied"): 1,
            ("purge", "all", "applied"): 1,
            ("upsert", UNKNOWN, "dead"): 3,
            (UNKNOWN, UNKNOWN, "dead"): 1,
        }
        assert counted.by("dead_letters_total", "reason", "op") == {
            ("refused", "upsert"): 1,
            ("invalid", "upsert"): 2,
            ("malformed", UNKNOWN): 1,
        }
        everything = len(receipts) + 1
        assert counted.of("batch_jobs_sum") == everything
        size = sum(map(len, bodies)) + len(encode_job(memory(USER, 4)))
        assert counted.of("batch_bytes_sum") == pytest.approx(size, abs=100)  # the client's encoding of the last
        assert counted.of("push_to_applied_seconds_count") == everything - 4
        assert 0 < counted.of("push_to_applied_seconds_sum") < 60 * everything
        batches = counted.of("batch_jobs_count")
        assert 1 <= batches <= everything

        assert counted.of("drains_total", ending="empty") >= 1
        assert counted.by("leases_total", "outcome") == {("acquired",): counted.of("drains_total")}
        assert now("leases_held") == 0
        assert now("breaker_state", state="closed") == 1

        updates = counted.by("qdrant_request_duration_seconds_count", "method", "code")
        assert updates["update_batch", "OK"] >= 2
        assert updates["update_batch", "INVALID_ARGUMENT"] >= 2  # together, smaller, and alone
        assert sum(of for (method, _), of in updates.items() if method == "update_batch") == qdrant_proxy.calls.count(
            UPDATE
        )
        assert counted.of("redis_request_duration_seconds_count", command="commit", code="OK") == batches
        for command in ("read", "push", "publish", "time", "meta", "canary"):
            assert counted.of("redis_request_duration_seconds_count", command=command, code="OK") >= 1, command
        assert not counted.of("role_restarts_total")

    async def test_an_outage_and_its_end_are_counted(
        self,
        counted: Counted,
        settings: MakeSettings,
        queue: MemoryQueue,
        qdrant_proxy: QdrantProxy,
        events: Events,
    ) -> None:
        qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.RESOURCE_EXHAUSTED)
        async with running(settings(qdrant_url=qdrant_proxy.url), role="ingest"):
            receipt = await queue.upsert(user_id=USER, point_id=f"mem_{USER}_1", vector=axis(0))
            await events.wait_for("batch_failed", times=2)
            with pytest.raises(NotApplied):
                await queue.wait_applied(receipt, timeout=0.05)
            assert now("breaker_state", state="closed") == 0
            qdrant_proxy.rules.clear()
            await queue.wait_applied(receipt)
        outages = events.of("batch_failed")
        assert counted.by("retries_total", "reason") == {("RESOURCE_EXHAUSTED",): len(outages)}
        assert counted.of("backoff_seconds_total") == pytest.approx(sum(outage["retry_in_s"] for outage in outages))
        assert counted.of("drains_total", ending="outage") >= len(outages)
        refused = counted.of("qdrant_request_duration_seconds_count", method="update_batch", code="RESOURCE_EXHAUSTED")
        assert refused >= len(outages)  # writes, and probes of what has failed before
        assert now("breaker_state", state="closed") == 1
        assert not counted.of("dead_letters_total")


class TestLeases:
    async def test_a_lease_of_a_drain_that_did_not_end_is_counted_as_taken_over(
        self, counted: Counted, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, events: Events
    ) -> None:
        await pushed(memory(USER, 1))
        died = await held_lease(redis, keys, partitions=1)
        await JobLog(redis, keys, reading(keys)).read(died, max_jobs=10, max_bytes=10_000)
        assert (await drainer().drain(0)).ending == "busy"
        await redis.delete(keys.lease(0))  # as if it had expired
        assert (await drainer().drain(0)).ending == "empty"
        assert (await drainer().drain(0)).ending == "empty"
        assert counted.by("leases_total", "outcome") == {("busy",): 1, ("acquired",): 2, ("taken_over",): 1}
        assert counted.by("drains_total", "ending") == {("busy",): 1, ("empty",): 2}
        assert events.of("lease_taken_over") == [{"partition": 0}]

    async def test_a_lease_that_expired_is_counted_as_lost(
        self, counted: Counted, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
    ) -> None:
        await pushed(memory(USER, 1))
        held = []

        async def lose_the_lease(call: Call) -> Any:
            held.append(now("leases_held"))
            await redis.delete(keys.lease(0))
            return await call.forward()

        qdrant_proxy.rules[UPDATE] = lose_the_lease
        before = now("leases_held")
        assert before is not None
        assert (await drainer().drain(0)).ending == "lost"
        assert counted.by("leases_total", "outcome") == {("acquired",): 1, ("lost",): 1}
        assert (held, now("leases_held")) == ([before + 1], before)
        assert not counted.of("jobs_total")


class TestReads:
    async def test_each_read_is_counted_once_by_its_outcome(
        self,
        counted: Counted,
        settings: MakeSettings,
        queue: MemoryQueue,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
    ) -> None:
        async with running(settings(qdrant_url=qdrant_proxy.url), role="search"):
            for _ in range(2):
                await queue.search(user_id=USER, vector=axis(0))
            await queue.get(user_id=USER, point_ids=[f"mem_{USER}_1"])
            await queue.info()
            qdrant_proxy.rules["Points/Query"] = unavailable
            with pytest.raises(ReadFailed):
                await queue.search(user_id=USER, vector=axis(0))
            job = await arq_client(redis).enqueue_job("get", {"user_id": "nobody"}, _queue_name=keys.search_queue)
            assert job is not None
            await job.result(timeout=10, poll_delay=0.01)
        assert counted.by("reads_total", "op", "outcome") == {
            ("search", "ok"): 2,
            ("search", "unavailable"): 1,
            ("get", "ok"): 1,
            ("get", "invalid"): 1,
            ("info", "ok"): 1,
        }
        asked = {("search",): 3, ("get",): 2, ("info",): 1}
        assert counted.by("read_queue_seconds_count", "op") == asked
        assert counted.by("read_duration_seconds_count", "op") == asked
        for op in READ_OPS:
            queued = counted.of("read_queue_seconds_sum", op=op)
            assert 0 <= queued <= counted.of("read_duration_seconds_sum", op=op) < 60
        answered = counted.by("qdrant_request_duration_seconds_count", "method", "code")
        assert (answered["query", "OK"], answered["query", "UNAVAILABLE"]) == (3, 1)
        # The time of the engine is counted for requests that it answered.
        assert counted.by("read_engine_seconds_count", "op") == {("search",): 2, ("get",): 1}


TEXT, OTHER_USER = "zebra", 8_675_309_123_456

BOUNDED = {
    "op": {*WRITE_OPS, *READ_OPS, UNKNOWN},
    "kind": {"memory", "document", "all", UNKNOWN},
    "outcome": {"applied", "dead", "acquired", "busy", "taken_over", "lost", *READ_OUTCOMES},
    "reason": {*REASONS, *(code.name for code in grpc.StatusCode), "REFUSED", "CONFIGURATION"},
}


async def test_a_hostile_producer_adds_no_series_and_no_text(
    settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    partition = partition_of(OTHER_USER, PARTITIONS)
    good: dict[str, Any] = {"op": "upsert", "user_id": OTHER_USER, "point_id": f"mem_{OTHER_USER}_{TEXT}"}
    good["vector"], good["payload"] = axis(0), {"category": TEXT, "value": TEXT}
    hostile = [
        {"op": "purge", "user_id": OTHER_USER},  # first, because it removes the dead letters of its user
        *({**good, "op": op} for op in (TEXT, 5, None, [TEXT], "search", "get", "info", "")),
        *({**good, "kind": kind} for kind in (TEXT.upper(), None, 7)),
        *({**good, "user_id": user_id} for user_id in (TEXT, -1, OTHER_USER + 1)),
        {**good, TEXT: TEXT},
        {**good, "namespace": TEXT.upper()},
        {"op": "purge", "user_id": OTHER_USER, "category": TEXT, "kind": "document"},
        {"op": "delete", "user_id": OTHER_USER, "point_ids": [f"mem_1_{TEXT}"]},
        {"op": "delete", "user_id": OTHER_USER, "point_ids": [f"mem_{OTHER_USER}_{n}" for n in range(50)]},
        good,
    ]
    bodies = [msgspec.msgpack.encode(job) for job in hostile] + [TEXT.encode(), b"", b"\xff"]
    counted = Counted()
    async with running(settings()):
        await push(redis, keys, PARTITIONS, [(partition, body) for body in bodies])
        for name, argument in [
            (TEXT, None),
            ("search", {"user_id": OTHER_USER, "vector": axis(0)}),
            ("search", {"user_id": OTHER_USER, "vector": TEXT}),
            ("get", {"user_id": OTHER_USER, "point_ids": [TEXT]}),
            ("info", TEXT),
        ]:
            job = await arq_client(redis).enqueue_job(name, argument, _queue_name=keys.search_queue)
            assert job is not None
            await job.result_info()
        last = await queue.delete(user_id=OTHER_USER, point_id=f"mem_{OTHER_USER}_1")
        await queue.wait_applied(last)
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while await redis.zcard(keys.search_queue):
                await queue.info()

    applied = counted.of("jobs_total", outcome="applied")
    assert (applied, counted.of("jobs_total", outcome="dead")) == (4, len(bodies) - 3)
    for name, labels in counted.new():
        for label, value in labels:
            if name.startswith(("jobs", "dead", "reads", "read_", "retries", "backoff", "leases")) and label != "le":
                assert value in BOUNDED[label], (name, label)
    exposition = generate_latest(REGISTRY).decode()
    assert TEXT not in exposition.lower()
    assert str(OTHER_USER) not in exposition
