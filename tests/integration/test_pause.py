"""A pause: no drain gets a partition, a running drain stops at its next batch, and `resume` wakes the workers."""

from __future__ import annotations

import asyncio

import grpc
import msgspec
import pytest
from click.testing import Result
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import NotApplied, QueuePaused
from memory_worker.inspection.check import run_checks
from memory_worker.inspection.status import collect_queue
from memory_worker.queue.drain_jobs import claim_partitions, rescue_partitions
from memory_worker.queue.holding import PartitionHolder
from memory_worker.queue.pausing import leased_partitions, pause_queue, resume_queue
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.pause import Pause, read_pause
from tests.commands import invoked
from tests.integration.conftest import (
    Contents,
    Events,
    Everything,
    MakeDrainer,
    MakeSettings,
    Push,
    running,
)
from tests.integration.jobs import PARTITIONS, axis, memory
from tests.integration.leases import held_lease, waiting
from tests.integration.proxies import UPDATE, Hold, QdrantProxy, failing


async def paused(redis: Redis, keys: Keys, reason: str = "") -> Pause:
    return await pause_queue(redis, keys, by="ops@host", reason=reason)


async def claimed(redis: Redis, keys: Keys) -> list[int]:
    """Return the partitions that a worker gets."""
    groups, _ = await claim_partitions(redis, keys, PARTITIONS, max_groups=9, batch_jobs=100, scan_limit=100, life_s=60)
    return sorted(number for group in groups for number in group.partitions)


async def test_a_pause_keeps_its_time_and_author_and_takes_a_new_reason(redis: Redis, keys: Keys) -> None:
    assert await read_pause(redis, keys) is None
    first = await paused(redis, keys, "backup")
    assert (first.by, first.reason) == ("ops@host", "backup")
    again = await pause_queue(redis, keys, by="somebody else")
    assert again == first == await read_pause(redis, keys)
    other = await pause_queue(redis, keys, by="somebody else", reason="move")
    assert other == msgspec.structs.replace(first, reason="move")
    assert str(other).endswith("UTC by ops@host: move")
    assert await resume_queue(redis, keys) == other
    assert await resume_queue(redis, keys) is None
    assert await read_pause(redis, keys) is None


async def test_nothing_is_claimed_and_the_drain_jobs_stay(
    redis: Redis, keys: Keys, pushed: Push, everything: Everything
) -> None:
    await pushed(memory(1, 1), partition=1, partitions=PARTITIONS)
    await pushed(memory(2, 1), partition=2, partitions=PARTITIONS)
    await paused(redis, keys)
    await redis.delete(keys.drain_wakeup)  # as a worker that was woken
    before = await everything()
    assert await claimed(redis, keys) == []
    assert await everything() == before
    await resume_queue(redis, keys)
    assert await redis.llen(keys.drain_wakeup) == 1
    assert await claimed(redis, keys) == [1, 2]


async def test_a_drain_gets_no_lease(
    redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, engine: Contents, shape: CollectionShape
) -> None:
    """A partition that is drained by itself, and a group."""
    ids = await pushed(memory(1, 1))
    await paused(redis, keys)
    result = await drainer().drain(0)
    assert (result.ending, result.wake_after_s, result.finished) == ("paused", 0.0, False)
    group = await drainer(partitions=PARTITIONS).drain_group([0, 1])
    assert {found.ending for found in group.values()} == {"paused"}
    assert await waiting(redis, keys) == ids
    assert await leased_partitions(redis, keys) == []
    assert engine.points(shape.base("memory")) == set()


@pytest.mark.parametrize("batch_max_jobs", [1, 2])
async def test_a_running_drain_stops_at_its_next_batch(
    redis: Redis,
    keys: Keys,
    pushed: Push,
    drainer: MakeDrainer,
    qdrant_proxy: QdrantProxy,
    engine: Contents,
    shape: CollectionShape,
    batch_max_jobs: int,
) -> None:
    """The batch in flight is applied, and so is the next one if it was read before the pause."""
    ids = await pushed(*(memory(1, number) for number in range(8)))
    qdrant_proxy.rules[UPDATE] = hold = Hold()
    draining = asyncio.create_task(drainer(batch_max_jobs=batch_max_jobs).drain(0))
    await hold.reached.wait()
    await paused(redis, keys)
    assert await leased_partitions(redis, keys) == [0]
    hold.release()
    assert (await draining).ending == "paused"
    left = await waiting(redis, keys)
    assert left == ids[len(ids) - len(left) :]
    assert 1 <= len(ids) - len(left) <= 2 * batch_max_jobs
    assert len(engine.points(shape.base("memory"))) == len(ids) - len(left)
    assert await leased_partitions(redis, keys) == []
    await resume_queue(redis, keys)
    assert (await drainer().drain(0)).ending == "empty"
    assert len(engine.points(shape.base("memory"))) == len(ids)


async def test_a_pause_during_an_outage_and_during_quarantine(
    redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, qdrant_proxy: QdrantProxy
) -> None:
    ids = await pushed(memory(1, 1), memory(1, 2))
    qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.UNAVAILABLE)
    draining = drainer()
    outage = await draining.drain(0)
    assert outage.ending == "outage"
    await paused(redis, keys)
    qdrant_proxy.rules.clear()
    await asyncio.sleep(outage.wake_after_s or 0)
    assert (await draining.drain(0)).ending == "paused"
    await redis.hset(keys.attempts(0), mapping={"head": ids[0], "last": ids[1], "quarantine_to": ids[1]})  # type: ignore[misc]
    assert (await drainer().drain(0)).ending == "paused"
    assert await waiting(redis, keys) == ids
    await resume_queue(redis, keys)
    assert (await drainer().drain(0)).jobs == 2


async def test_the_rescue_restores_lost_drain_jobs_in_silence(redis: Redis, keys: Keys, pushed: Push) -> None:
    """A pause may be longer than the life of a drain job."""
    await pushed(memory(1, 1))
    await paused(redis, keys)
    await redis.delete(keys.arq_job(keys.drain_job_id(0)), keys.drain_queue)
    assert await rescue_partitions(redis, keys, PARTITIONS) == 0
    assert await redis.zscore(keys.drain_queue, keys.drain_job_id(0)) is not None
    await resume_queue(redis, keys)
    assert await claimed(redis, keys) == [0]


async def test_a_command_that_holds_partitions_is_refused(redis: Redis, keys: Keys) -> None:
    """`rekey` writes to Qdrant, too."""
    holder = PartitionHolder(redis, keys, PARTITIONS, lease_ttl_s=8, settle_s=0)
    await paused(redis, keys)
    with pytest.raises(QueuePaused, match="memory-worker resume"):
        async with holder.hold(0):
            pass
    assert await leased_partitions(redis, keys) == []
    await resume_queue(redis, keys)
    async with holder.hold(0):
        assert len(await leased_partitions(redis, keys)) == 2


async def test_a_worker_that_is_paused_answers_reads_and_takes_pushes(
    settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys, events: Events
) -> None:
    async with running(settings(rescue_interval_s=0.05)):
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
        await paused(redis, keys, "[bold]backup")
        receipts = [await queue.upsert(user_id=1, point_id=f"mem_1_{n}", vector=axis(0)) for n in range(2, 5)]
        with pytest.raises(NotApplied, match=r"still queued; the queue is paused since .* by ops@host: \[bold\]backup"):
            await queue.wait_applied(receipts[-1], timeout=0.3)
        assert [hit.point_id for hit in await queue.search(user_id=1, vector=axis(0))] == ["mem_1_1"]
        assert {state.state for state in await queue.states(receipts)} == {"waiting"}
        await resume_queue(redis, keys)
        await queue.wait_applied(receipts[-1], timeout=20)
        assert await queue.count(user_id=1) == 4
    assert not events.of("rescued")
    assert not events.of("drain_failed")


async def test_the_command_waits_for_batches_in_flight(redis: Redis, keys: Keys, redis_url: str) -> None:
    """Also for the lease of a worker that was killed."""

    def run(*options: str) -> Result:
        environment = {"REDIS_URL": redis_url, "QDRANT_URL": "http://x:1", "QUEUE_PREFIX": keys.prefix}
        return invoked("pause", *options, **environment)

    await held_lease(redis, keys, 2, ttl_s=2)
    done = await asyncio.to_thread(run, "--timeout", "0.1", "--reason", "x" * 300)
    assert done.exit_code == 1
    assert "batches are still in flight, in 1 partitions (2); run `memory-worker pause` again" in done.stderr
    pause = await read_pause(redis, keys)
    assert pause is not None
    assert pause.reason == "x" * 200
    done = await asyncio.to_thread(run)
    assert (done.exit_code, done.stdout) == (0, f"{pause}\n")
    assert await leased_partitions(redis, keys) == []


async def test_status_and_check_show_a_pause(
    settings: MakeSettings, redis: Redis, keys: Keys, store: VectorStore
) -> None:
    assert (await collect_queue(redis, keys)).paused is None
    pause = await paused(redis, keys, "backup")
    assert (await collect_queue(redis, keys)).paused == pause
    checks = {check.name: check async for check in run_checks(settings(), redis, store)}
    assert checks["pause"].verdict == "warning"
    assert "memory-worker resume" in checks["pause"].advice
