"""The drain: what it applies, what it sets aside, and what it leaves for later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import (
    CONTRACT_VERSION,
    Delete,
    Get,
    Limits,
    Purge,
    Receipt,
    Upsert,
    WriteJob,
    encode_job,
    partition_of,
)
from memory_worker.contract.errors import PartitionMismatch, Superseded
from memory_worker.contract.kinds import primary_id
from memory_worker.ingest.context import HELD_DELAY_S, DrainResult
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.dead_letters import DeadLetter, DeadLetters
from memory_worker.store.operations import CollectionRef
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, Everything
from tests.integration.jobs import LIMITS, PARTITIONS, axis, bodies, chunk, memory
from tests.integration.leases import acquire_lease
from tests.integration.proxies import Call, QdrantProxy, RedisProxy, Refusal

UPDATE = "Points/UpdateBatch"

MakeDrainer = Callable[..., Drainer]
Push = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def drainer(redis: Redis, keys: Keys, proxied_store: VectorStore) -> MakeDrainer:
    """Make a drainer of a queue of one partition; what it writes goes through the proxy, and nothing is waited out."""

    def make(*, stopping: Callable[[], bool] = lambda: False, **options: Any) -> Drainer:
        chosen = DrainOptions(**{"partitions": 1, "limits": LIMITS, "slice_s": 10, "settle_s": 0, **options})
        return Drainer(redis, keys, proxied_store, chosen, stopping=stopping)

    return make


@pytest.fixture
def pushed(redis: Redis, keys: Keys) -> Push:
    """Push jobs (or raw bodies) to partition 0; return the ids of their entries."""

    async def do(*jobs: WriteJob | bytes, version: int = CONTRACT_VERSION) -> list[str]:
        encoded = [(0, job if isinstance(job, bytes) else encode_job(job)) for job in jobs]
        return [receipt.entry_id for receipt in await push(redis, keys, 1, encoded, version=version)]

    return do


@pytest.fixture
def dead_letters(redis: Redis, keys: Keys) -> Callable[[], Awaitable[dict[str, DeadLetter]]]:
    """Return the dead letters by the ids of their entries."""

    async def collect() -> dict[str, DeadLetter]:
        return {
            dead_letter.receipt.entry_id: dead_letter
            async for dead_letter in all_dead_letters(DeadLetters(redis, keys, 1))
        }

    return collect


Letters = Callable[[], Awaitable[dict[str, DeadLetter]]]


async def waiting(redis: Redis, keys: Keys) -> list[str]:
    return [entry_id.decode() for entry_id, _ in await redis.xrange(keys.stream(0))]


def refuse(*point_ids: str) -> Callable[[Call], Awaitable[Any]]:
    """Refuse each batch that writes one of these points; let all others pass."""
    refused = {primary_id(point_id) for point_id in point_ids}

    async def rule(call: Call) -> Any:
        written = {point.id.uuid for operation in call.request.operations for point in operation.upsert.points}
        if written & refused:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Wrong input: a bad point")
        return await call.forward()

    return rule


def fail(code: grpc.StatusCode, **metadata: str) -> Callable[[Call], Awaitable[Any]]:
    async def rule(call: Call) -> Any:
        raise Refusal(code, **metadata)

    return rule


def delayed(
    delay_s: float, redis: Redis | None = None, keys: Keys | None = None, margins_s: list[float] | None = None
) -> Callable[[Call], Awaitable[Any]]:
    """Take some time; note by how much the lease is going to outlive the call."""

    async def rule(call: Call) -> Any:
        if redis is not None and keys is not None and margins_s is not None:
            margins_s.append(await redis.pttl(keys.lease(0)) / 1000 - call.time_left_s)
        await asyncio.sleep(delay_s)
        return await call.forward()

    return rule


async def delay(outage: DrainResult) -> None:
    """Let the time pass after which the doorbell would ring again."""
    assert outage.wake_after_s is not None
    await asyncio.sleep(outage.wake_after_s)


class TestApplies:
    async def test_in_order_and_nothing_is_left(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, shape: CollectionShape, engine: Contents
    ) -> None:
        await pushed(
            memory(1, 1, value="first"),
            memory(2, 1),
            chunk(1, 5, 0, text="x"),
            Delete(user_id=2, point_ids=["mem_2_1"]),
            memory(1, 1, value="second"),
            memory(1, 2, namespace="feedback_positive"),
        )

        result = await drainer().drain(0)

        assert (result.ending, result.wake_after_s, result.jobs, result.dead) == ("empty", 0, 6, 0)
        assert {point: payload["value"] for point, payload in engine.payloads(shape.memories).items()} == {
            "mem_1_1": "second"
        }
        assert engine.points(shape.documents) == {"doc_1_5_0"}
        assert engine.points(f"{shape.memories}_feedback_positive") == {"mem_1_2"}
        assert await waiting(redis, keys) == []
        assert not await redis.exists(keys.lease(0), keys.backlog, keys.dead(0))

    async def test_batches_by_count(self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy) -> None:
        await pushed(*(memory(1, number) for number in range(10)))
        result = await drainer(batch_max_jobs=4).drain(0)
        assert (result.ending, result.jobs) == ("empty", 10)
        assert qdrant_proxy.calls.count(UPDATE) == 3

    async def test_batches_by_bytes(self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy) -> None:
        jobs = [memory(1, number, value="x" * 1000) for number in range(4)]
        await pushed(*jobs)
        result = await drainer(batch_max_bytes=2 * len(encode_job(jobs[0]))).drain(0)
        assert (result.ending, result.jobs) == ("empty", 4)
        assert qdrant_proxy.calls.count(UPDATE) == 2

    async def test_batches_are_applied_one_after_the_other(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
    ) -> None:
        in_flight, most_in_flight = 0, 0

        async def count(call: Call) -> Any:
            nonlocal in_flight, most_in_flight
            in_flight += 1
            most_in_flight = max(most_in_flight, in_flight)
            answer = await call.forward()
            in_flight -= 1
            return answer

        qdrant_proxy.rules[UPDATE] = count
        await pushed(*(memory(1, number % 3, value=str(number)) for number in range(30)))
        assert (await drainer(batch_max_jobs=2).drain(0)).jobs == 30
        assert most_in_flight == 1
        stored = {point: payload["value"] for point, payload in engine.payloads(shape.memories).items()}
        assert stored == {"mem_1_0": "27", "mem_1_1": "28", "mem_1_2": "29"}

    async def test_an_outage_in_the_middle(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        async def fail_after_two(call: Call) -> Any:
            if qdrant_proxy.calls.count(UPDATE) > 2:
                raise Refusal(grpc.StatusCode.UNAVAILABLE)
            return await call.forward()

        qdrant_proxy.rules[UPDATE] = fail_after_two
        ids = await pushed(*(memory(1, number) for number in range(8)))
        draining = drainer(batch_max_jobs=2)
        outage = await draining.drain(0)
        assert outage.ending == "outage"
        assert await waiting(redis, keys) == ids[4:]
        qdrant_proxy.rules.clear()
        await delay(outage)
        result = await draining.drain(0)
        assert (result.ending, result.jobs) == ("empty", 4)

    async def test_nothing_waits(self, drainer: MakeDrainer, qdrant_proxy: QdrantProxy, everything: Everything) -> None:
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 0)
        assert qdrant_proxy.calls == []
        assert await everything() == {}

    async def test_jobs_of_other_languages(
        self, drainer: MakeDrainer, pushed: Push, shape: CollectionShape, engine: Contents
    ) -> None:
        await pushed(
            b'{"op":"upsert","user_id":1,"point_id":"mem_1_1","vector":[1,0,0,0,0,0,0,0],"payload":{"value":"json"}}'
        )
        assert (await drainer().drain(0)).dead == 0
        assert engine.payloads(shape.memories)["mem_1_1"]["value"] == "json"

    async def test_a_purge_reaches_all_namespaces(
        self, drainer: MakeDrainer, pushed: Push, shape: CollectionShape, engine: Contents
    ) -> None:
        def everywhere(user_id: int) -> list[WriteJob]:
            return [
                memory(user_id, 1),
                memory(user_id, 2, namespace="feedback_positive"),
                memory(user_id, 3, namespace="feedback_false_positive"),
                chunk(user_id, 5, 0),
            ]

        await pushed(*everywhere(1), *everywhere(2))
        await drainer().drain(0)
        # In the same batch as a write to a namespace that does not exist yet.
        await pushed(memory(1, 4, namespace="new"), Purge(user_id=1), memory(1, 9))
        assert (await drainer().drain(0)).ending == "empty"

        assert engine.points(shape.memories) == {"mem_2_1", "mem_1_9"}
        assert engine.points(shape.documents) == {"doc_2_5_0"}
        assert engine.points(f"{shape.memories}_feedback_positive") == {"mem_2_2"}
        assert engine.points(f"{shape.memories}_feedback_false_positive") == {"mem_2_3"}
        assert engine.points(f"{shape.memories}_new") == set()


class TestPoison:
    async def test_one_of_each_in_five_hundred(
        self,
        drainer: MakeDrainer,
        redis: Redis,
        keys: Keys,
        dead_letters: Letters,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        user_id, stranger = 4, 5  # of partitions 0 and 2
        jobs: list[bytes] = [encode_job(memory(user_id, number)) for number in range(500)]
        jobs[77] = b"\xc1 no message at all"
        jobs[123] = encode_job(Upsert(user_id=user_id, point_id=f"mem_{user_id}_123", vector=axis(0)[:-4]))
        jobs[124] = encode_job(Upsert(user_id=user_id, point_id="mem_5_1", vector=axis(0)))
        jobs[301] = encode_job(memory(stranger, 1))
        qdrant_proxy.rules[UPDATE] = refuse(f"mem_{user_id}_20")
        receipts = await push(redis, keys, PARTITIONS, [(0, job) for job in jobs])

        result = await drainer(partitions=PARTITIONS).drain(0)

        assert (result.ending, result.jobs, result.dead) == ("empty", 500, 5)
        by_entry = await dead_letters()
        dead = {at: by_entry[one.entry_id] for at, one in enumerate(receipts) if one.entry_id in by_entry}
        assert {at: dead_letter.reason for at, dead_letter in dead.items()} == {
            20: "refused",
            77: "malformed",
            123: "invalid",
            124: "invalid",
            301: "invalid",
        }
        assert "a bad point" in dead[20].detail
        assert dead[123].detail.startswith("vector: expected 8 dimensions")
        assert dead[124].detail.startswith("point_id: ")
        assert "partition 2" in dead[301].detail
        assert (dead[301].op, dead[301].user_id) == ("upsert", "5")
        assert all(dead[at].body == jobs[at] for at in dead)
        expected = {f"mem_{user_id}_{number}" for number in range(500) if number not in dead}
        assert engine.points(shape.memories) == expected
        dead_bytes = sum(len(jobs[at]) for at in dead)
        assert await redis.hgetall(keys.backlog) == {b"dead": b"5", b"dead_bytes": b"%d" % dead_bytes}

    async def test_a_refused_one_before_a_malformed_one(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Letters, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refuse("mem_1_1")
        bad, _, ugly = await pushed(memory(1, 1), memory(1, 2), b"malformed")
        result = await drainer().drain(0)
        assert (result.ending, result.dead) == ("empty", 2)
        assert {entry: dead_letter.reason for entry, dead_letter in (await dead_letters()).items()} == {
            bad: "refused",
            ugly: "malformed",
        }

    async def test_all_bad_is_all_dead_and_bad_is_only_what_qdrant_refuses_alone(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Letters, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refuse(*(f"mem_1_{number}" for number in range(20)))
        ids = await pushed(*(memory(1, number) for number in range(20)), memory(1, 20))
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 21)
        assert set(await dead_letters()) == set(ids[:20])

    async def test_jobs_beyond_the_limits(self, drainer: MakeDrainer, pushed: Push, dead_letters: Letters) -> None:
        ids = await pushed(memory(1, 1, value="x" * 2000), memory(1, 2))
        result = await drainer(limits=Limits(dimension=LIMITS.dimension, max_job_bytes=1500)).drain(0)
        assert (result.ending, result.dead) == ("empty", 1)
        assert (await dead_letters())[ids[0]].reason == "invalid"

    async def test_what_is_larger_than_any_job_is_not_even_read(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        redis: Redis,
        keys: Keys,
        redis_proxy: RedisProxy,
        watched: Redis,
        proxied_store: VectorStore,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        large = b"x" * (100 * LIMITS.max_job_bytes)
        for number in range(5):
            await pushed(memory(1, number))
            await redis.xadd(keys.stream(0), {"v": CONTRACT_VERSION, "j": large})
        chosen = DrainOptions(partitions=1, limits=LIMITS, slice_s=10, settle_s=0)
        result = await Drainer(watched, keys, proxied_store, chosen).drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 10, 5)
        assert redis_proxy.answered_bytes < len(large) // 10
        assert engine.points(shape.memories) == {f"mem_1_{number}" for number in range(5)}
        found = list((await dead_letters()).values())
        assert {dead_letter.detail for dead_letter in found} == {"job: at most 65,536 bytes are allowed, got 6,553,600"}
        assert {dead_letter.body for dead_letter in found} == {large}

    async def test_entries_without_a_job(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Letters, redis: Redis, keys: Keys
    ) -> None:
        await redis.xadd(keys.stream(0), {"by": "hand"})
        await pushed(memory(1, 1))
        result = await drainer().drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 2, 1)
        assert [dead_letter.reason for dead_letter in (await dead_letters()).values()] == ["malformed"]


class TestOutage:
    @pytest.mark.parametrize("code", ["UNAVAILABLE", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL", "NOT_FOUND"])
    async def test_nothing_is_lost_and_nothing_dies(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
        code: str,
    ) -> None:
        draining = drainer(retry=RetryPolicy(base_s=0.1, max_s=0.5))
        ids = await pushed(memory(1, 1), b"malformed, but not yet looked at twice", memory(1, 2))
        backlog = await redis.hgetall(keys.backlog)

        qdrant_proxy.rules[UPDATE] = fail(grpc.StatusCode[code])
        for doubled in (0.1, 0.2, 0.4, 0.5, 0.5):
            result = await draining.drain(0)
            assert (result.ending, result.jobs, result.dead) == ("outage", 0, 0)
            assert result.wake_after_s is not None
            assert doubled / 2 <= result.wake_after_s <= doubled
            assert await waiting(redis, keys) == ids
            assert await dead_letters() == {}
            assert await redis.hgetall(keys.backlog) == backlog
            assert not await redis.exists(keys.lease(0))
            await delay(result)

        qdrant_proxy.rules.clear()
        result = await draining.drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 3, 1)
        assert engine.points(shape.memories) == {"mem_1_1", "mem_1_2"}

        await pushed(memory(1, 3))
        qdrant_proxy.rules[UPDATE] = fail(grpc.StatusCode.UNAVAILABLE)
        assert (await draining.drain(0)).wake_after_s == pytest.approx(0.075, abs=0.026)

    async def test_while_the_server_is_away_only_one_drain_asks(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy
    ) -> None:
        draining = drainer(retry=RetryPolicy(base_s=0.2, max_s=0.2))
        await pushed(memory(1, 1))
        qdrant_proxy.rules[UPDATE] = fail(grpc.StatusCode.UNAVAILABLE)
        outage = await draining.drain(0)
        for _ in range(5):
            assert (await draining.drain(0)).ending == "outage"
        assert qdrant_proxy.calls.count(UPDATE) == 1
        await delay(outage)
        await draining.drain(0)
        assert qdrant_proxy.calls.count(UPDATE) == 3  # the job and, as it has failed before, a probe

    async def test_a_server_that_wants_to_be_left_alone(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = fail(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after="17")
        await pushed(memory(1, 1))
        assert (await drainer().drain(0)).wake_after_s == 17

    async def test_a_server_that_refuses_everything(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
    ) -> None:
        """Strict mode, or a wrong schema: the jobs are not to blame."""
        ids = await pushed(*(memory(1, number) for number in range(9)))
        qdrant_proxy.rules[UPDATE] = fail(grpc.StatusCode.INVALID_ARGUMENT)
        draining = drainer()
        for _ in range(3):
            assert (await draining.drain(0)).ending == "outage"
        assert await waiting(redis, keys) == ids
        assert await dead_letters() == {}

        qdrant_proxy.rules.clear()
        result = await draining.drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 9, 0)

    async def test_a_collection_of_another_dimension(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        engine.create(shape.memories, size=16)
        ids = await pushed(memory(1, 1))
        assert (await drainer().drain(0)).ending == "outage"
        assert await waiting(redis, keys) == ids
        assert await dead_letters() == {}

    async def test_only_part_of_a_batch_was_applied(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        """The deletes are applied, the writes are not: all of it comes again."""
        await pushed(memory(1, 1), memory(1, 2))
        await drainer().drain(0)

        async def apply_half(call: Call) -> Any:
            del call.request.operations[1:]
            await call.forward()
            raise Refusal(grpc.StatusCode.UNAVAILABLE)

        qdrant_proxy.rules[UPDATE] = apply_half
        ids = await pushed(Delete(user_id=1, point_ids=["mem_1_1"]), memory(1, 2, value="new"))
        assert (await drainer().drain(0)).ending == "outage"
        assert engine.points(shape.memories) == {"mem_1_2"}
        assert await waiting(redis, keys) == ids

        qdrant_proxy.rules.clear()
        assert (await drainer().drain(0)).ending == "empty"
        assert engine.payloads(shape.memories)["mem_1_2"]["value"] == "new"

    async def test_applied_and_the_reply_lost(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        async def lose_the_reply(call: Call) -> Any:
            await call.forward()
            raise Refusal(grpc.StatusCode.UNAVAILABLE)

        qdrant_proxy.rules[UPDATE] = lose_the_reply
        await pushed(memory(1, 1, value="a"), Purge(user_id=1, kind="memory"), memory(1, 2))
        assert (await drainer().drain(0)).ending == "outage"
        assert engine.points(shape.memories) == {"mem_1_2"}
        qdrant_proxy.rules.clear()
        assert (await drainer().drain(0)).ending == "empty"
        assert engine.points(shape.memories) == {"mem_1_2"}


class TestHeld:
    async def test_a_newer_contract_waits_for_a_newer_worker(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        await pushed(memory(1, 1), memory(1, 2))
        newer = await pushed(b"what this is only a newer worker knows", version=CONTRACT_VERSION + 1)
        behind = await pushed(memory(1, 3))

        for jobs in (2, 0):
            result = await drainer().drain(0)
            assert (result.ending, result.wake_after_s, result.jobs, result.dead) == ("held", HELD_DELAY_S, jobs, 0)
        assert await waiting(redis, keys) == newer + behind
        assert await dead_letters() == {}
        assert engine.points(shape.memories) == {"mem_1_1", "mem_1_2"}


class TestLease:
    async def test_busy(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        await pushed(memory(1, 1))
        assert await acquire_lease(redis, keys, 0, ttl_s=8, partitions=1)
        before = await everything()
        result = await drainer().drain(0)
        assert (result.ending, result.wake_after_s, result.jobs) == ("busy", None, 0)
        assert await everything() == before

    @pytest.mark.parametrize("successor", [None, "a successor's token"])
    async def test_lost_between_apply_and_commit(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Letters,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
        successor: str | None,
    ) -> None:
        async def lose_the_lease(call: Call) -> Any:
            answer = await call.forward()
            await redis.delete(keys.lease(0))
            if successor is not None:
                await redis.set(keys.lease(0), successor)
            return answer

        qdrant_proxy.rules[UPDATE] = lose_the_lease
        ids = await pushed(memory(1, 1), b"malformed", memory(1, 2))
        result = await drainer().drain(0)

        assert (result.ending, result.wake_after_s, result.jobs) == ("lost", None, 0)
        assert await waiting(redis, keys) == ids
        assert await dead_letters() == {}
        token = await redis.getdel(keys.lease(0))
        assert token == (successor.encode() if successor else None)

        qdrant_proxy.rules.clear()
        result = await drainer().drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 3, 1)
        assert engine.points(shape.memories) == {"mem_1_1", "mem_1_2"}

    async def test_of_another_number_of_partitions_no_job_dies(
        self, drainer: MakeDrainer, redis: Redis, keys: Keys, everything: Everything, dead_letters: Letters
    ) -> None:
        """Its user would belong to another partition, if the number were the right one."""
        user_id, wrong = 4, 3
        assert (partition_of(user_id, PARTITIONS), partition_of(user_id, wrong)) == (0, 1)
        await push(redis, keys, PARTITIONS, bodies(memory(user_id, 1)))
        before = await everything()
        with pytest.raises(PartitionMismatch):
            await drainer(partitions=wrong).drain(0)
        assert await everything() == before
        result = await drainer(partitions=PARTITIONS).drain(0)
        assert (result.jobs, result.dead) == (1, 0)
        assert await dead_letters() == {}

    async def test_no_write_outlives_the_lease(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        """Even when making the collection on the way has taken most of the lease."""
        margins_s: list[float] = []
        qdrant_proxy.rules.update({"Collections/Get": delayed(0.75), UPDATE: delayed(0, redis, keys, margins_s)})
        await pushed(memory(1, 1))
        result = await drainer(lease_ttl_s=3, request_timeout_s=2, margin_s=0.4).drain(0)
        assert result.ending == "empty"
        assert [margin_s > 0 for margin_s in margins_s] == [True]

    async def test_it_is_renewed_within_a_batch(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        proxied_store: VectorStore,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
    ) -> None:
        namespaces = [f"n{number}" for number in range(4)]
        for namespace in namespaces:
            await proxied_store.collections.ensure(CollectionRef("memory", namespace))
        margins_s: list[float] = []
        qdrant_proxy.rules[UPDATE] = delayed(0.35, redis, keys, margins_s)
        await pushed(*(memory(1, 1, namespace=namespace) for namespace in namespaces))
        result = await drainer(lease_ttl_s=2, request_timeout_s=1.2, margin_s=0.2).drain(0)
        assert (result.ending, result.jobs) == ("empty", 4)
        assert [margin_s > 0 for margin_s in margins_s] == [True] * 4


class TestEnds:
    async def test_its_slice_is_over(self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys) -> None:
        ids = await pushed(*(memory(1, number) for number in range(5)))
        result = await drainer(slice_s=0, batch_max_jobs=2).drain(0)
        assert (result.ending, result.wake_after_s, result.jobs) == ("slice", 0, 2)
        assert await waiting(redis, keys) == ids[2:]
        assert not await redis.exists(keys.lease(0))

    async def test_it_must_stop(self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys) -> None:
        ids = await pushed(*(memory(1, number) for number in range(5)))
        result = await drainer(stopping=lambda: True, batch_max_jobs=2).drain(0)
        assert (result.ending, result.wake_after_s, result.jobs) == ("stopped", 0, 2)
        assert await waiting(redis, keys) == ids[2:]

    async def test_cancelled_while_it_applies(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        applying = asyncio.Event()

        async def never(call: Call) -> Any:
            applying.set()
            await asyncio.Event().wait()

        qdrant_proxy.rules[UPDATE] = never
        ids = await pushed(memory(1, 1), memory(1, 2))
        draining = asyncio.create_task(drainer().drain(0))
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            await applying.wait()
        assert await redis.exists(keys.lease(0))

        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert await waiting(redis, keys) == ids
        assert not await redis.exists(keys.lease(0))

        qdrant_proxy.rules.clear()
        assert (await drainer().drain(0)).jobs == 2


async def test_partitions_are_drained_side_by_side(
    drainer: MakeDrainer, redis: Redis, keys: Keys, shape: CollectionShape, engine: Contents
) -> None:
    users = {0: 4, 1: 2, 2: 5, 3: 1}
    for partition, user_id in users.items():
        jobs = bodies(*(memory(user_id, number) for number in range(10)), partition=partition)
        await push(redis, keys, PARTITIONS, jobs)
    draining = drainer(partitions=PARTITIONS)
    results = await asyncio.gather(*(draining.drain(partition) for partition in users))
    assert [(result.ending, result.jobs) for result in results] == [("empty", 10)] * PARTITIONS
    assert len(engine.points(shape.memories)) == 40


class TestReplay:
    """A dead letter is replayed, unless that undoes something newer; a purge of its user takes it away."""

    @pytest.fixture
    async def died(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> Receipt:
        """The write of a point that Qdrant refused, but would take by now."""
        qdrant_proxy.rules[UPDATE] = refuse("mem_1_1")
        [entry_id] = await pushed(memory(1, 1, value="old"))
        assert (await drainer().drain(0)).dead == 1
        qdrant_proxy.rules.clear()
        return Receipt(0, entry_id)

    @pytest.fixture
    def dead(self, redis: Redis, keys: Keys) -> DeadLetters:
        return DeadLetters(redis, keys, 1)

    @pytest.fixture
    def value(self, proxied_store: VectorStore) -> Callable[[], Awaitable[str | None]]:
        async def read() -> str | None:
            points, _ = await proxied_store.get(Get(user_id=1, point_ids=["mem_1_1"]), timeout_s=5)
            return points[0].payload["value"] if points else None

        return read

    async def test_where_nothing_newer_was_applied(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Any, everything: Everything
    ) -> None:
        await pushed(memory(1, 2), memory(2, 1), Purge(user_id=2))
        await drainer().drain(0)
        assert await dead.replay(died) is not None
        result = await drainer().drain(0)
        assert (result.jobs, result.dead) == (1, 0)
        assert await value() == "old"
        assert not {name for name in await everything() if b"guarded" in name}

    @pytest.mark.parametrize("newer", [memory(1, 1, value="new"), Delete(user_id=1, point_ids=["mem_1_1"])])
    async def test_where_a_newer_job_was_applied(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Any, newer: WriteJob
    ) -> None:
        await pushed(newer)
        await drainer().drain(0)
        before = await value()
        with pytest.raises(Superseded):
            await dead.replay(died)
        assert await dead.get(died) is not None
        assert await value() == before

        assert await dead.replay(died, force=True) is not None
        assert (await drainer().drain(0)).dead == 0
        assert await value() == "old"

    async def test_where_a_newer_job_still_waits(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Any, dead_letters: Letters
    ) -> None:
        await pushed(memory(1, 1, value="new"))
        replay = await dead.replay(died)
        assert replay is not None
        result = await drainer().drain(0)
        assert (result.jobs, result.dead) == (2, 1)
        assert await value() == "new"
        assert {entry_id: dead_letter.reason for entry_id, dead_letter in (await dead_letters()).items()} == {
            replay.entry_id: "superseded"
        }
        with pytest.raises(Superseded):
            await dead.replay(replay)

    async def test_a_batch_of_many_thousand_points_is_held_against_the_letters(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push
    ) -> None:
        ids = [[f"mem_1_{number}" for number in range(first, first + 1000)] for first in range(2, 12_000, 1000)]
        await pushed(*(Delete(user_id=1, point_ids=chunk) for chunk in ids))
        assert (await drainer().drain(0)).dead == 0
        assert await dead.replay(died) is not None

    async def test_a_purge_of_the_user_takes_it_away(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, everything: Everything
    ) -> None:
        await pushed(Purge(user_id=2), Purge(user_id=1, kind="document"))
        await drainer().drain(0)
        assert await dead.get(died) is not None
        await pushed(Purge(user_id=1))
        await drainer().drain(0)
        assert await dead.get(died) is None
        assert not {name for name in await everything() if b"guarded" in name}

    async def test_a_purge_that_waits_is_not_undone_by_a_replay_behind_it(
        self, died: Receipt, dead: DeadLetters, drainer: MakeDrainer, pushed: Push, value: Any, dead_letters: Letters
    ) -> None:
        await pushed(Purge(user_id=1))
        replay = await dead.replay(died)
        assert replay is not None
        await drainer(batch_max_jobs=1).drain(0)
        assert await value() is None
        assert await dead_letters() == {}  # it went with its user

    async def test_a_dropped_one_leaves_no_guard(
        self, died: Receipt, dead: DeadLetters, everything: Everything
    ) -> None:
        assert await dead.drop([died])
        assert not {name for name in await everything() if b"guarded" in name}

    async def test_a_purge_that_is_refused_takes_nothing_with_it(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, dead_letters: Letters
    ) -> None:
        """What died before it in the same batch stays a dead letter, for the purge has not happened."""

        async def refuse_purges(call: Call) -> Any:
            deleted = [operation.delete_points.points.filter.must for operation in call.request.operations]
            if any(condition.field.match.integer == 1 for conditions in deleted for condition in conditions):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Wrong input: no purges")
            return await call.forward()

        await pushed(memory(2, 1))
        await drainer().drain(0)
        qdrant_proxy.rules[UPDATE] = refuse_purges
        short = Upsert(user_id=1, point_id="mem_1_1", vector=b"\x00\x00\x80?")
        ids = await pushed(short, Purge(user_id=1, kind="memory"))
        assert (await drainer().drain(0)).dead == 2
        assert {entry_id: dead_letter.reason for entry_id, dead_letter in (await dead_letters()).items()} == {
            ids[0]: "invalid",
            ids[1]: "refused",
        }

    async def test_an_entry_of_thousands_of_fields(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Letters, redis: Redis, keys: Keys
    ) -> None:
        await pushed(b"malformed")
        await redis.xadd(keys.stream(0), {**{f"field{n}": "x" for n in range(5_000)}, "reason": "none"})
        result = await drainer().drain(0)
        assert (result.ending, result.dead) == ("empty", 2)
        assert [dead_letter.reason for dead_letter in (await dead_letters()).values()] == ["malformed", "malformed"]
