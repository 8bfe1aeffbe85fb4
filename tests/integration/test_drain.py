"""The drain: which jobs it applies, which become dead letters, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, Delete, Purge, Upsert, WriteJob, encode_job
from memory_worker.ingest.context import HELD_DELAY_S
from memory_worker.store.operations import CollectionRef
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import Contents, Dead, Everything, MakeDrainer, Push
from tests.integration.jobs import LIMITS, PARTITIONS, axis, chunk, memory
from tests.integration.leases import held_lease, waiting
from tests.integration.proxies import UPDATE, Call, QdrantProxy, RedisProxy, Refusal, refusing


def delayed(
    delay_s: float, redis: Redis | None = None, keys: Keys | None = None, margins_s: list[float] | None = None
) -> Callable[[Call], Awaitable[Any]]:
    """Delay the call; record by how much the lease will outlive it."""

    async def rule(call: Call) -> Any:
        if redis is not None and keys is not None and margins_s is not None:
            margins_s.append(await redis.pttl(keys.lease(0)) / 1000 - call.time_left_s)
        await asyncio.sleep(delay_s)
        return await call.forward()

    return rule


class TestApplies:
    async def test_jobs_are_applied_in_order_and_nothing_is_left(
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
        assert {point: payload["value"] for point, payload in engine.payloads(shape.base("memory")).items()} == {
            "mem_1_1": "second"
        }
        assert engine.points(shape.base("document")) == {"doc_1_5_0"}
        assert engine.points(f"{shape.base('memory')}_feedback_positive") == {"mem_1_2"}
        assert await waiting(redis, keys) == []
        assert not await redis.exists(keys.lease(0), keys.backlog, keys.dead(0))

    @pytest.mark.parametrize("limit", ["batch_max_jobs", "batch_max_bytes"])
    async def test_a_batch_is_limited_by_jobs_and_by_bytes(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, limit: str
    ) -> None:
        jobs = [memory(1, number, value="x" * 1000) for number in range(5)]
        two_jobs = {"batch_max_jobs": 2, "batch_max_bytes": 2 * len(encode_job(jobs[0]))}
        await pushed(*jobs)
        result = await drainer(**{limit: two_jobs[limit]}).drain(0)
        assert (result.ending, result.jobs) == ("empty", 5)
        assert qdrant_proxy.calls.count(UPDATE) == 3

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
        stored = {point: payload["value"] for point, payload in engine.payloads(shape.base("memory")).items()}
        assert stored == {"mem_1_0": "27", "mem_1_1": "28", "mem_1_2": "29"}

    async def test_an_empty_partition_needs_no_request(
        self, drainer: MakeDrainer, qdrant_proxy: QdrantProxy, everything: Everything
    ) -> None:
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 0)
        assert qdrant_proxy.calls == []
        assert await everything() == {}

    async def test_a_job_in_json_is_applied(
        self, drainer: MakeDrainer, pushed: Push, shape: CollectionShape, engine: Contents
    ) -> None:
        await pushed(
            b'{"op":"upsert","user_id":1,"point_id":"mem_1_1","vector":[1,0,0,0,0,0,0,0],"payload":{"value":"json"}}'
        )
        assert (await drainer().drain(0)).dead == 0
        assert engine.payloads(shape.base("memory"))["mem_1_1"]["value"] == "json"

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
        # The batch also writes to a namespace that does not exist yet.
        await pushed(memory(1, 4, namespace="new"), Purge(user_id=1), memory(1, 9))
        assert (await drainer().drain(0)).ending == "empty"

        assert engine.points(shape.base("memory")) == {"mem_2_1", "mem_1_9"}
        assert engine.points(shape.base("document")) == {"doc_2_5_0"}
        assert engine.points(f"{shape.base('memory')}_feedback_positive") == {"mem_2_2"}
        assert engine.points(f"{shape.base('memory')}_feedback_false_positive") == {"mem_2_3"}
        assert engine.points(f"{shape.base('memory')}_new") == set()


class TestPoison:
    async def test_five_bad_jobs_of_five_hundred_become_dead_letters(
        self,
        drainer: MakeDrainer,
        redis: Redis,
        keys: Keys,
        dead_letters: Dead,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        user_id, other_user_id = 4, 5  # of partitions 0 and 2
        jobs: list[bytes] = [encode_job(memory(user_id, number)) for number in range(500)]
        jobs[77] = b"\xc1 no message at all"
        jobs[123] = encode_job(Upsert(user_id=user_id, point_id=f"mem_{user_id}_123", vector=axis(0)[:-4]))
        jobs[124] = encode_job(Upsert(user_id=user_id, point_id="mem_5_1", vector=axis(0)))
        jobs[301] = encode_job(memory(other_user_id, 1))
        qdrant_proxy.rules[UPDATE] = refusing(f"mem_{user_id}_20")
        receipts = await push(redis, keys, PARTITIONS, [(0, job) for job in jobs])

        result = await drainer(partitions=PARTITIONS).drain(0)

        assert (result.ending, result.jobs, result.dead) == ("empty", 500, 5)
        dead = {receipts.index(dead_letter.receipt): dead_letter for dead_letter in await dead_letters()}
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
        assert engine.points(shape.base("memory")) == expected
        dead_bytes = sum(len(jobs[at]) for at in dead)
        assert await redis.hgetall(keys.backlog) == {b"dead": b"5", b"dead_bytes": b"%d" % dead_bytes}

    async def test_all_bad_jobs_become_dead_letters_and_the_good_one_is_applied(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Dead, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refusing(*(f"mem_1_{number}" for number in range(20)))
        ids = await pushed(*(memory(1, number) for number in range(20)), memory(1, 20))
        result = await drainer().drain(0)
        assert (result.ending, result.jobs) == ("empty", 21)
        assert [dead_letter.receipt.entry_id for dead_letter in await dead_letters()] == ids[:20]

    async def test_an_oversized_entry_becomes_a_dead_letter_without_being_read(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Dead,
        redis: Redis,
        keys: Keys,
        redis_proxy: RedisProxy,
        watched: Redis,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        large = b"x" * (100 * LIMITS.max_job_bytes)
        for number in range(5):
            await pushed(memory(1, number))
            await redis.xadd(keys.stream(0), {"v": CONTRACT_VERSION, "j": large})
        result = await drainer(through=watched).drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 10, 5)
        assert redis_proxy.answered_bytes < len(large) // 10
        assert engine.points(shape.base("memory")) == {f"mem_1_{number}" for number in range(5)}
        found = await dead_letters()
        assert {dead_letter.detail for dead_letter in found} == {"job: at most 65,536 bytes are allowed, got 6,553,600"}
        assert {dead_letter.body for dead_letter in found} == {large}

    async def test_an_entry_with_other_fields_becomes_a_dead_letter(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Dead, redis: Redis, keys: Keys
    ) -> None:
        await redis.xadd(keys.stream(0), {"by": "hand"})
        await pushed(memory(1, 1))
        await redis.xadd(keys.stream(0), {**{f"field{n}": "x" for n in range(5_000)}, "reason": "none"})
        result = await drainer().drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 3, 2)
        assert [dead_letter.reason for dead_letter in await dead_letters()] == ["malformed", "malformed"]

    async def test_a_refused_purge_removes_no_dead_letter(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, dead_letters: Dead
    ) -> None:
        """A job that died before it in the same batch stays a dead letter, because the purge was not applied."""

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
        found = {dead_letter.receipt.entry_id: dead_letter.reason for dead_letter in await dead_letters()}
        assert found == {ids[0]: "invalid", ids[1]: "refused"}


async def test_an_entry_of_a_newer_contract_is_held_for_a_newer_worker(
    drainer: MakeDrainer,
    pushed: Push,
    dead_letters: Dead,
    redis: Redis,
    keys: Keys,
    shape: CollectionShape,
    engine: Contents,
) -> None:
    await pushed(memory(1, 1), memory(1, 2))
    newer = await pushed(b"only a newer worker can decode this", version=CONTRACT_VERSION + 1)
    behind = await pushed(memory(1, 3))

    for jobs in (2, 0):
        result = await drainer().drain(0)
        assert (result.ending, result.wake_after_s, result.jobs, result.dead) == ("held", HELD_DELAY_S, jobs, 0)
    assert await waiting(redis, keys) == newer + behind
    assert await dead_letters() == []
    assert engine.points(shape.base("memory")) == {"mem_1_1", "mem_1_2"}


class TestLease:
    async def test_a_partition_with_another_holder_is_busy(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, everything: Everything
    ) -> None:
        await pushed(memory(1, 1))
        await held_lease(redis, keys, partitions=1)
        before = await everything()
        result = await drainer().drain(0)
        assert (result.ending, result.wake_after_s, result.jobs) == ("busy", None, 0)
        assert await everything() == before

    @pytest.mark.parametrize("successor", [None, "a successor's token"])
    async def test_a_drain_that_loses_its_lease_commits_nothing(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        dead_letters: Dead,
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
        assert await dead_letters() == []
        token = await redis.getdel(keys.lease(0))
        assert token == (successor.encode() if successor else None)

        qdrant_proxy.rules.clear()
        result = await drainer().drain(0)
        assert (result.ending, result.jobs, result.dead) == ("empty", 3, 1)
        assert engine.points(shape.base("memory")) == {"mem_1_1", "mem_1_2"}

    async def test_no_request_outlives_the_lease(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys
    ) -> None:
        """Even if making the collection took most of the lease."""
        margins_s: list[float] = []
        qdrant_proxy.rules.update({"Collections/Get": delayed(0.75), UPDATE: delayed(0, redis, keys, margins_s)})
        await pushed(memory(1, 1))
        result = await drainer(lease_ttl_s=3, request_timeout_s=2, margin_s=0.4).drain(0)
        assert result.ending == "empty"
        assert [margin_s > 0 for margin_s in margins_s] == [True]

    async def test_the_lease_is_renewed_within_a_batch(
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


def stopping_after_the_start() -> Callable[[], bool]:
    answers = chain([False], repeat(True))
    return lambda: next(answers)


@pytest.mark.parametrize(
    ("options", "ending"),
    [({"slice_s": 0}, "slice"), ({"stopping": stopping_after_the_start()}, "stopped")],
    ids=["slice", "stop"],
)
async def test_a_drain_ends_after_its_batch_if_its_time_is_over_or_the_worker_stops(
    drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, options: dict[str, Any], ending: str
) -> None:
    ids = await pushed(*(memory(1, number) for number in range(5)))
    result = await drainer(batch_max_jobs=2, **options).drain(0)
    assert (result.ending, result.wake_after_s, result.jobs) == (ending, 0, 2)
    assert await waiting(redis, keys) == ids[2:]
    assert not await redis.exists(keys.lease(0))


async def test_a_drain_that_is_claimed_while_the_worker_stops_leaves_all_to_another(
    drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
) -> None:
    ids = await pushed(memory(1, 1))
    result = await drainer(stopping=lambda: True).drain(0)
    assert (result.ending, result.wake_after_s, result.finished) == ("stopped", 0, False)
    assert await waiting(redis, keys) == ids
