"""Requests that fail, with any code: a bad job becomes a dead letter and delays no other job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import partition_of
from memory_worker.contract.errors import QueueUnavailable
from memory_worker.contract.kinds import primary_id
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.judge import MAX_SINGLE_FAILURES
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.log import BatchCommit, JobLog
from memory_worker.store.collections import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, Dead, MakeDrainer, Push
from tests.integration.jobs import LIMITS, PARTITIONS, memory
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, written_ids

USERS = {partition_of(user_id, PARTITIONS): user_id for user_id in range(20, 0, -1)}
BAD = memory(USERS[0], 20)
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

RETRY = RetryPolicy(base_s=0.001, max_s=0.002)


def writes_bad(call: Call) -> bool:
    return primary_id(BAD.point_id) in written_ids(call)


@pytest.fixture
def drainer(drainer: MakeDrainer) -> Drainer:
    return drainer(partitions=PARTITIONS, retry=RETRY)


@pytest.fixture
async def good_points(pushed: Push, proxied_store: VectorStore) -> set[str]:
    """Push 30 upserts of one user, one of them bad, and a few of other partitions; return the points of the good."""
    await proxied_store.prepare()
    jobs = {
        partition: [memory(user_id, number) for number in range(3 if partition else 30)]
        for partition, user_id in USERS.items()
    }
    for partition, chosen in jobs.items():
        await pushed(*chosen, partition=partition, partitions=PARTITIONS)
    return {job.point_id for chosen in jobs.values() for job in chosen} - {BAD.point_id}


async def drained(drainer: Drainer, redis: Redis, keys: Keys, partitions: list[int]) -> int:
    """Drain until these partitions are empty; return how many drains failed."""
    failed = 0
    for _ in range(500):
        results = await drainer.drain_group(list(USERS))
        if not sum([await redis.xlen(keys.stream(partition)) for partition in partitions]):
            return failed
        failed += any(results[partition].ending == "outage" for partition in partitions)
        await asyncio.sleep(max(result.wake_after_s or 0 for result in results.values()))
    raise AssertionError("jobs still wait")


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_one_bad_job_of_many_is_a_dead_letter_and_all_others_are_applied(
    code: grpc.StatusCode,
    drainer: Drainer,
    good_points: set[str],
    qdrant_proxy: QdrantProxy,
    redis: Redis,
    keys: Keys,
    dead_letters: Dead,
    shape: CollectionShape,
    engine: Contents,
) -> None:
    async def rule(call: Call) -> Any:
        if writes_bad(call):
            raise Refusal(code, "a bad point")
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = rule
    assert await drained(drainer, redis, keys, [1, 2, 3]) <= 2
    await drained(drainer, redis, keys, [0])
    assert engine.points(shape.base("memory")) == good_points
    [dead_letter] = await dead_letters()
    assert (dead_letter.reason, dead_letter.op, dead_letter.user_id) == ("refused", "upsert", str(USERS[0]))
    assert code.name in dead_letter.detail


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_a_job_that_fails_for_a_while_is_applied(
    code: grpc.StatusCode,
    drainer: Drainer,
    good_points: set[str],
    qdrant_proxy: QdrantProxy,
    redis: Redis,
    keys: Keys,
    dead_letters: Dead,
    shape: CollectionShape,
    engine: Contents,
) -> None:
    """Except if Qdrant calls the request invalid: then it is a dead letter at once."""
    refusals = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
    alone = 0

    async def rule(call: Call) -> Any:
        nonlocal alone
        if writes_bad(call):
            points = sum(len(operation.upsert.points) for operation in call.request.operations)
            alone += points == 1
            if points > 1 or alone < MAX_SINGLE_FAILURES:
                raise Refusal(code, "not now")
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = rule
    await drained(drainer, redis, keys, list(USERS))
    assert [dead_letter.reason for dead_letter in await dead_letters()] == (["refused"] if code in refusals else [])
    assert engine.points(shape.base("memory")) == good_points | (set() if code in refusals else {BAD.point_id})


@pytest.mark.usefixtures("good_points")
async def test_a_bad_job_becomes_a_dead_letter_only_after_its_last_request_has_settled(
    redis: Redis, keys: Keys, proxied_store: VectorStore, qdrant_proxy: QdrantProxy
) -> None:
    """Its request may still be applied, and jobs behind it must be applied after it."""
    options = DrainOptions(partitions=PARTITIONS, limits=LIMITS, slice_s=10, settle_s=0.05, retry=RETRY)
    drainer = Drainer(redis, keys, proxied_store, options)
    sent_at = died_at = 0.0

    async def rule(call: Call) -> Any:
        nonlocal sent_at
        if writes_bad(call):
            sent_at = time.monotonic()
            raise Refusal(grpc.StatusCode.INTERNAL, "unknown")
        return await call.forward()

    qdrant_proxy.rules[UPDATE] = rule
    for _ in range(500):
        results = await drainer.drain_group(list(USERS))
        if await redis.xlen(keys.dead(0)) and not died_at:
            died_at = time.monotonic()
        if not await redis.xlen(keys.stream(0)):
            break
        await asyncio.sleep(max(result.wake_after_s or 0 for result in results.values()))
    assert died_at - sent_at >= options.settle_s


@pytest.mark.usefixtures("good_points")
async def test_a_lease_lasts_until_every_request_under_it_has_ended(
    drainer: Drainer, qdrant_proxy: QdrantProxy, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions of a group are tried separately. One fails at once, while the request of another is in flight."""
    slow, failed, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def rule(call: Call) -> Any:
        users = {point.payload["user_id"].integer_value for op in call.request.operations for point in op.upsert.points}
        if len(users) > 1:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "not together")
        if users == {USERS[1]}:
            slow.set()
            await go_on.wait()
        return await call.forward()

    commit = JobLog.commit

    async def fail(self: JobLog, done: BatchCommit) -> int:
        if done.lease.partition == 2:
            await slow.wait()
            failed.set()
            raise QueueUnavailable("Redis is down for this partition")
        return await commit(self, done)

    monkeypatch.setattr(JobLog, "commit", fail)
    qdrant_proxy.rules[UPDATE] = rule
    draining = asyncio.create_task(drainer.drain_group(list(USERS)))
    async with asyncio.timeout(SIGNAL_TIMEOUT_S):
        await failed.wait()
        for _ in range(5):
            await redis.ping()  # gives the drain time to give leases back too early
        assert await redis.exists(keys.lease(1)), "given back while its request was in flight"
        go_on.set()
        with pytest.raises(QueueUnavailable):
            await draining
    assert not await redis.exists(*(keys.lease(partition) for partition in USERS))
    assert await redis.xlen(keys.stream(1)) == 0
