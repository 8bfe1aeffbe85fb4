"""The drain of a group: partitions share requests, and a failure of one does not affect the others."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, encode_job, partition_of
from memory_worker.contract.errors import QueueUnavailable
from memory_worker.ingest.context import HELD_DELAY_S
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import JobLog
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.integration.conftest import (
    SIGNAL_TIMEOUT_S,
    Contents,
    Dead,
    Events,
    MakeDrainer,
    MakeSettings,
    Push,
    running,
)
from tests.integration.jobs import PARTITIONS, axis, memory
from tests.integration.leases import die, held_lease, open_head
from tests.integration.proxies import (
    UPDATE,
    Call,
    QdrantProxy,
    RedisProxy,
    failing,
    refusing,
    unavailable,
    written_ids,
)

ALL = range(PARTITIONS)
USERS = {partition_of(user_id, PARTITIONS): user_id for user_id in range(1, 50)}
"""A user of each partition."""


@pytest.fixture
def drainer(drainer: MakeDrainer) -> MakeDrainer:
    """Make a drainer of all partitions."""
    return partial(drainer, partitions=PARTITIONS, retry=RetryPolicy(base_s=0.01, max_s=0.01))


@pytest.fixture
def pushed(pushed: Push) -> Push:
    """Push jobs or raw bodies to a partition."""
    return lambda partition, *jobs, **options: pushed(*jobs, partition=partition, partitions=PARTITIONS, **options)


class PointCounts:
    """A rule that forwards calls and records how many points each of them writes."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def __call__(self, call: Call) -> Any:
        self.seen.append(len(written_ids(call)))
        return await call.forward()


@pytest.fixture
async def one_in_each(pushed: Push, proxied_store: VectorStore, qdrant_proxy: QdrantProxy) -> set[str]:
    """Make the collections and push an upsert to each partition; return its points."""
    await proxied_store.prepare()
    qdrant_proxy.calls.clear()
    for partition, user_id in USERS.items():
        await pushed(partition, memory(user_id, 1))
    return {point_of(partition) for partition in ALL}


def point_of(partition: int, number: int = 1) -> str:
    return f"mem_{USERS[partition]}_{number}"


async def endings(drainer: Drainer, partitions: Any = ALL) -> dict[int, str]:
    return {partition: result.ending for partition, result in (await drainer.drain_group(list(partitions))).items()}


async def waiting_jobs(redis: Redis, keys: Keys) -> dict[int, int]:
    found = {partition: await redis.xlen(keys.stream(partition)) for partition in ALL}
    return {partition: count for partition, count in found.items() if count}


async def held(redis: Redis, keys: Keys) -> list[int]:
    return [partition for partition in ALL if await redis.exists(keys.lease(partition))]


class TestTogether:
    async def test_a_group_needs_one_request_and_two_scripts(
        self,
        drainer: MakeDrainer,
        one_in_each: set[str],
        qdrant_proxy: QdrantProxy,
        redis_proxy: RedisProxy,
        watched: Redis,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        results = await drainer(through=watched).drain_group(list(ALL))
        assert {(result.ending, result.wake_after_s, result.jobs) for result in results.values()} == {("empty", 0, 1)}
        assert engine.points(shape.base("memory")) == one_in_each
        assert qdrant_proxy.calls.count(UPDATE) == 1
        assert redis_proxy.words().count("EVALSHA") == 2  # open, commit
        assert await waiting_jobs(redis, keys) == {}
        assert await held(redis, keys) == []
        assert not await redis.exists(keys.backlog)

    async def test_each_partition_is_applied_in_its_order(
        self, drainer: MakeDrainer, pushed: Push, shape: CollectionShape, engine: Contents
    ) -> None:
        for partition, user_id in USERS.items():
            await pushed(partition, *(memory(user_id, 1, value=value) for value in ("first", "second", "third")))
        results = await drainer().drain_group(list(ALL))
        assert [result.jobs for result in results.values()] == [3] * PARTITIONS
        stored = {point: payload["value"] for point, payload in engine.payloads(shape.base("memory")).items()}
        assert stored == {point_of(partition): "third" for partition in ALL}

    @pytest.mark.usefixtures("one_in_each")
    async def test_partitions_that_do_not_fit_into_the_batch_are_woken_again(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        redis_proxy: RedisProxy,
        watched: Redis,
        redis: Redis,
        keys: Keys,
    ) -> None:
        await pushed(1, *(memory(USERS[1], number) for number in range(2, 6)))
        redis_proxy.words()
        results = await drainer(through=watched, batch_max_jobs=4).drain_group([0, 1, 2, 3])
        assert redis_proxy.words().count("EVALSHA") == 2  # the commit also gives back the leases of the rest
        assert [results[partition].jobs for partition in ALL] == [1, 3, 0, 0]
        assert {(result.ending, result.wake_after_s) for result in results.values()} == {("empty", 0), ("slice", 0)}
        assert await waiting_jobs(redis, keys) == {1: 2, 2: 1, 3: 1}
        assert await held(redis, keys) == []

    async def test_a_batch_of_a_group_is_limited_by_bytes(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
    ) -> None:
        """It may have one job more, as the batch of a single partition has at least one job of any size."""
        jobs = {partition: memory(USERS[partition], 1, value="x" * 5_000) for partition in ALL}
        for partition, job in jobs.items():
            await pushed(partition, job)
        size = len(encode_job(jobs[0]))
        assert (await endings(drainer(batch_max_bytes=size + 1))) == {0: "empty", 1: "empty", 2: "slice", 3: "slice"}
        assert await waiting_jobs(redis, keys) == {2: 1, 3: 1}

    async def test_empty_partitions_need_no_request(self, drainer: MakeDrainer, qdrant_proxy: QdrantProxy) -> None:
        assert await endings(drainer()) == dict.fromkeys(ALL, "empty")
        assert qdrant_proxy.calls.count(UPDATE) == 0


@pytest.mark.usefixtures("one_in_each")
class TestOnePartition:
    """One partition of a group differs, and the others are drained."""

    async def test_a_busy_partition_is_left_out(self, drainer: MakeDrainer, redis: Redis, keys: Keys) -> None:
        other = await held_lease(redis, keys, 2)
        results = await drainer().drain_group(list(ALL))
        assert (results[2].ending, results[2].wake_after_s) == ("busy", None)
        assert await waiting_jobs(redis, keys) == {2: 1}
        assert await redis.get(keys.lease(2)) == other.token.encode()

    async def test_a_refused_job_becomes_a_dead_letter(
        self,
        drainer: MakeDrainer,
        redis: Redis,
        keys: Keys,
        dead_letters: Dead,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refusing(point_of(1))
        results = await drainer().drain_group(list(ALL))
        assert {partition: result.dead for partition, result in results.items()} == {0: 0, 1: 1, 2: 0, 3: 0}
        assert engine.points(shape.base("memory")) == {point_of(partition) for partition in ALL if partition != 1}
        assert [dead_letter.reason for dead_letter in await dead_letters()] == ["refused"]
        assert await waiting_jobs(redis, keys) == {}

    async def test_dead_letters_do_not_end_the_group(
        self, drainer: MakeDrainer, pushed: Push, dead_letters: Dead, qdrant_proxy: QdrantProxy
    ) -> None:
        await pushed(3, b"no message", memory(USERS[0], 7), memory(USERS[3], 2, vector=axis(0)))
        draining = drainer()
        results = await draining.drain_group(list(ALL))
        assert {partition: (result.jobs, result.dead) for partition, result in results.items()} == {
            **dict.fromkeys((0, 1, 2), (1, 0)),
            3: (4, 2),
        }
        assert qdrant_proxy.calls.count(UPDATE) == 1
        assert {dead_letter.reason for dead_letter in await dead_letters()} == {"malformed", "invalid"}
        await pushed(3, memory(USERS[3], 3))
        await pushed(0, memory(USERS[0], 3))
        assert await endings(draining, (0, 3)) == {0: "empty", 3: "empty"}
        assert qdrant_proxy.calls.count(UPDATE) == 2

    async def test_an_entry_of_a_newer_contract_is_held(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
    ) -> None:
        await pushed(0, b"new", version=CONTRACT_VERSION + 1)
        draining = drainer()
        assert await endings(draining) == {0: "slice", 1: "empty", 2: "empty", 3: "empty"}
        results = await draining.drain_group(list(ALL))
        assert (results[0].ending, results[0].wake_after_s) == ("held", HELD_DELAY_S)
        assert await waiting_jobs(redis, keys) == {0: 1}
        assert await held(redis, keys) == []

    async def test_an_entry_in_quarantine_is_tried_alone(
        self,
        drainer: MakeDrainer,
        redis: Redis,
        keys: Keys,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
        one_in_each: set[str],
    ) -> None:
        for process in ("first", "second", "third"):
            lease = Lease(1, 8)
            assert await open_head(redis, keys, lease, partitions=PARTITIONS, most=10, process=process)
            await die(redis, keys, process)
            await redis.delete(keys.lease(1))  # its lease has expired
        counts = qdrant_proxy.rules[UPDATE] = PointCounts()
        assert await endings(drainer()) == dict.fromkeys(ALL, "empty")
        assert counts.seen == [PARTITIONS - 1, 1]
        assert engine.points(shape.base("memory")) == one_in_each

    async def test_a_lost_lease_is_not_committed(
        self, drainer: MakeDrainer, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
    ) -> None:
        async def lose_one(call: Call) -> Any:
            answer = await call.forward()
            await redis.set(keys.lease(2), "a successor's token")
            return answer

        qdrant_proxy.rules[UPDATE] = lose_one
        results = await drainer().drain_group(list(ALL))
        assert [results[partition].ending for partition in ALL] == ["empty", "empty", "lost", "empty"]
        assert results[2].wake_after_s is None
        assert await waiting_jobs(redis, keys) == {2: 1}
        assert await held(redis, keys) == [2]

    async def test_a_partition_with_wrong_keys_does_not_delay_the_others(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events
    ) -> None:
        await redis.delete(keys.stream(1))
        await redis.set(keys.applied(1), "by hand")
        await redis.set(keys.attempts(1), "by hand")
        async with running(settings(queue_partitions=PARTITIONS, lease_ttl_s=3, qdrant_timeout_s=1), role="ingest"):
            for partition, user_id in USERS.items():
                receipt = await queue.upsert(user_id=user_id, point_id=point_of(partition, 5), vector=axis(0))
                if partition != 1:
                    await queue.wait_applied(receipt, timeout=SIGNAL_TIMEOUT_S)
            await events.wait_for("drain_failed")
        assert await waiting_jobs(redis, keys) == {1: 1}


@pytest.mark.usefixtures("one_in_each")
class TestOutage:
    async def test_no_job_is_lost(
        self,
        drainer: MakeDrainer,
        redis: Redis,
        keys: Keys,
        qdrant_proxy: QdrantProxy,
        shape: CollectionShape,
        engine: Contents,
        one_in_each: set[str],
    ) -> None:
        qdrant_proxy.rules[UPDATE] = unavailable
        draining = drainer()
        results = await draining.drain_group(list(ALL))
        assert {result.ending for result in results.values()} == {"outage"}
        assert len(await waiting_jobs(redis, keys)) == PARTITIONS
        qdrant_proxy.rules.clear()
        await asyncio.sleep(max(result.wake_after_s or 0 for result in results.values()))
        assert await endings(draining) == dict.fromkeys(ALL, "empty")
        assert engine.points(shape.base("memory")) == one_in_each

    async def test_no_job_is_sent_while_a_request_may_still_be_applied(
        self, drainer: MakeDrainer, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.INTERNAL)
        results = await drainer(settle_s=30).drain_group(list(ALL))
        assert {(result.ending, result.wake_after_s) for result in results.values()} == {("outage", 30)}
        assert await held(redis, keys) == list(ALL)
        assert await endings(drainer()) == dict.fromkeys(ALL, "busy")

    async def test_a_batch_that_took_too_long_is_tried_in_smaller_batches(
        self, drainer: MakeDrainer, pushed: Push, qdrant_proxy: QdrantProxy
    ) -> None:
        for partition in ALL:
            await pushed(partition, *(memory(USERS[partition], number) for number in range(2, 5)))

        qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.DEADLINE_EXCEEDED)
        draining = drainer()
        results = await draining.drain_group(list(ALL))
        counts = qdrant_proxy.rules[UPDATE] = PointCounts()
        await asyncio.sleep(max(result.wake_after_s or 0 for result in results.values()))
        # Each partition is drained separately, so that one that fails again does not delay the others.
        assert [result.jobs for result in (await draining.drain_group(list(ALL))).values()] == [4] * PARTITIONS
        assert sorted(counts.seen) == [1] * 2 * PARTITIONS + [2] * PARTITIONS


@pytest.mark.usefixtures("one_in_each")
class TestLeasesAreGivenBack:
    """Leases are given back even if it is not known whether they were acquired, so that no drain must wait for them."""

    async def test_leases_are_given_back_after_a_lost_reply(
        self, drainer: MakeDrainer, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[int] = []
        really = JobLog.open

        async def lost(self: JobLog, *args: Any, **options: Any) -> Any:
            await really(self, *args, **options)
            taken.extend(await held(redis, keys))
            raise QueueUnavailable("no answer")

        monkeypatch.setattr(JobLog, "open", lost)
        for partitions in ([0], [1, 2, 3]):
            with pytest.raises(QueueUnavailable):
                await drainer().drain_group(partitions)
        assert taken == list(ALL)
        assert await held(redis, keys) == []

    async def test_leases_are_given_back_after_a_cancellation(
        self, drainer: MakeDrainer, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reached = asyncio.Event()
        really = JobLog.open

        async def stuck(self: JobLog, *args: Any, **options: Any) -> Any:
            await really(self, *args, **options)
            reached.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(JobLog, "open", stuck)
        for partitions in ([0], [1, 2, 3]):
            reached.clear()
            draining = asyncio.create_task(drainer().drain_group(partitions))
            await asyncio.wait_for(reached.wait(), SIGNAL_TIMEOUT_S)
            assert await held(redis, keys) == partitions
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
            assert await held(redis, keys) == []
