"""Drains of overflow streams: how they end, what becomes of their jobs, and dead letters in both streams of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, JobState, Purge, Receipt
from memory_worker.contract.errors import Superseded
from memory_worker.ingest.arq_taker import ArqTaker
from memory_worker.queue.dead_choice import Choice, choose
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.log import JobLog
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.applied import check_applied, job_states, wait_applied
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.outcomes import FIRST, read_outcomes
from tests.arq_producer import arguments, arq_pool
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Contents, MakeDrainer, MakeSettings, running
from tests.integration.jobs import LIMITS, axis, memory
from tests.integration.leases import held_lease, reading
from tests.integration.overflowing import Pusher
from tests.integration.proxies import UPDATE, QdrantProxy, refusing

HOME, OVERFLOW = 0, 1
FILL = (memory(1, 8), memory(1, 9))
"""Jobs after which the next job of this user overflows."""


@pytest.fixture
async def queue(redis: Redis, keys: Keys) -> Pusher:
    """A queue of one partition, with a burst of one job."""
    pusher = Pusher(redis, keys, burst=1)
    await pusher.publish()
    return pusher


@pytest.fixture
def dead(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, 1)


async def drain_both(drainer: MakeDrainer) -> None:
    """Apply all jobs. Then no user overflows, because requests to Qdrant take more than a millisecond."""
    assert (await drainer().drain(HOME)).ending == "empty"
    assert (await drainer().drain(OVERFLOW)).ending in ("empty", "behind")


class TestEndings:
    async def test_it_waits_for_the_home_stream_without_a_busy_loop(
        self, queue: Pusher, drainer: MakeDrainer, redis: Redis, keys: Keys
    ) -> None:
        *_, last = await queue.jobs(*FILL, memory(1, 1))
        assert last.partition == OVERFLOW
        one = drainer()
        delays = [await one.drain(OVERFLOW) for _ in range(8)]
        assert {result.ending for result in delays} == {"behind"}
        assert 0.02 < (delays[0].wake_after_s or 0) <= 0.05
        assert 0.5 <= (delays[-1].wake_after_s or 0) <= 1
        assert await redis.xlen(keys.stream(OVERFLOW)) == 1
        await one.drain(HOME)
        result = await one.drain(OVERFLOW)
        assert (result.ending, result.jobs) == ("empty", 1)

    async def test_both_streams_in_one_group(
        self, queue: Pusher, drainer: MakeDrainer, engine: Contents, shape: CollectionShape
    ) -> None:
        await queue.jobs(*FILL, memory(1, 8, value="last"))
        one = drainer()
        first = await one.drain_group([HOME, OVERFLOW])
        assert [first[HOME].ending, first[OVERFLOW].ending] == ["empty", "behind"]
        second = await one.drain_group([HOME, OVERFLOW])
        assert [second[HOME].ending, second[OVERFLOW].ending] == ["empty", "empty"]
        assert engine.payloads(shape.base("memory"))["mem_1_8"]["value"] == "last"

    async def test_its_slice_is_short(self, queue: Pusher, drainer: MakeDrainer) -> None:
        await queue.jobs(*FILL, memory(1, 1), memory(1, 2))
        one = drainer(batch_max_jobs=1, overflow_slice_s=0)
        assert ((await one.drain(HOME)).ending, (await one.drain(HOME)).jobs) == ("empty", 0)
        result = await one.drain(OVERFLOW)
        assert (result.ending, result.jobs, result.wake_after_s) == ("slice", 1, 0)

    async def test_a_worker_drains_it(self, settings: MakeSettings, keys: Keys, redis_url: str) -> None:
        async with (
            running(settings(queue_user_burst=1, queue_partitions=1), role="ingest"),
            MemoryQueue.connect(redis_url, prefix=keys.prefix) as queue,
        ):
            points = [{"user_id": 1, "point_id": f"mem_1_{number}", "vector": axis(0)} for number in range(40)]
            receipts = await queue.upsert_many(points)
            assert {receipt.partition for receipt in receipts} == {HOME, OVERFLOW}
            other = await queue.upsert(user_id=2, point_id="mem_2_1", vector=axis(0))
            assert other.partition == HOME
            for receipt in (receipts[0], receipts[-1], other):
                await queue.wait_applied(receipt, timeout=SIGNAL_TIMEOUT_S)


class TestReceipts:
    async def test_states_and_outcomes_name_the_overflow_stream(
        self, queue: Pusher, drainer: MakeDrainer, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
        *_, applied, died = await queue.jobs(*FILL, memory(1, 2), memory(1, 1))
        assert [one.state for one in await job_states(redis, keys, [applied, died])] == ["waiting", "waiting"]
        await drain_both(drainer)
        await check_applied(redis, keys, applied)
        await wait_applied(redis, keys, applied, timeout_s=1)
        assert [one.state for one in await job_states(redis, keys, [applied, died])] == ["applied", "dead"]
        (dead_letter,) = await all_dead_letters(redis, keys, 1)
        assert (dead_letter.receipt, dead_letter.user_id) == (died, "1")
        outcomes = await read_outcomes(redis, keys, after=FIRST, count=9, timeout_s=0, patience_s=5)
        assert [(one.outcome, one.receipt) for one in outcomes] == [("dead", died)]


@pytest.fixture
async def died(queue: Pusher, drainer: MakeDrainer, qdrant_proxy: QdrantProxy) -> AsyncIterator[dict[int, Receipt]]:
    """The receipts of two upserts that Qdrant refused, but would accept now, by their streams: mem_1_0 and mem_1_1."""
    qdrant_proxy.rules[UPDATE] = refusing("mem_1_0", "mem_1_1")
    home, *_, overflow = await queue.jobs(memory(1, 0, value="old"), *FILL, memory(1, 1, value="old"))
    assert [home.partition, overflow.partition] == [HOME, OVERFLOW]
    await drain_both(drainer)
    qdrant_proxy.rules.clear()
    yield {HOME: home, OVERFLOW: overflow}


class TestDeadLetters:
    async def test_a_newer_job_in_the_other_stream_makes_a_replay_stale(
        self, died: dict[int, Receipt], queue: Pusher, drainer: MakeDrainer, dead: DeadLetters
    ) -> None:
        """Each is newer than the dead letter of its point in the other stream."""
        streams = await queue.jobs(memory(1, 1, value="new"), *FILL, Delete(user_id=1, point_ids=["mem_1_0"]))
        assert [receipt.partition for receipt in streams] == [HOME, HOME, OVERFLOW, OVERFLOW]
        await drain_both(drainer)
        for receipt in died.values():
            with pytest.raises(Superseded):
                await dead.replay(receipt)

    @pytest.mark.parametrize("stream", [HOME, OVERFLOW])
    async def test_a_replay_goes_where_the_jobs_of_its_user_go_now(
        self, died: dict[int, Receipt], queue: Pusher, drainer: MakeDrainer, dead: DeadLetters, stream: int
    ) -> None:
        if stream == OVERFLOW:
            await queue.jobs(*FILL)
        replays = {receipt: await dead.replay(receipt) for receipt in died.values()}
        assert {replay.partition for replay in replays.values() if replay} == {stream}
        states = await job_states(queue.redis, queue.keys, list(replays))
        assert states == [JobState(receipt, "waiting", replay=replay) for receipt, replay in replays.items()]
        await drain_both(drainer)
        assert [one.state for one in await job_states(queue.redis, queue.keys, list(replays))] == ["applied"] * 2
        assert await all_dead_letters(queue.redis, queue.keys, 1) == []

    async def test_a_forced_replay_is_behind_the_waiting_jobs_of_its_user(
        self, died: dict[int, Receipt], queue: Pusher, drainer: MakeDrainer, dead: DeadLetters, engine: Contents,
        shape: CollectionShape,
    ) -> None:  # fmt: skip
        await queue.jobs(*FILL, memory(1, 0, value="new"))
        replay = await dead.replay(died[HOME], force=True)
        assert replay is not None
        assert replay.partition == OVERFLOW
        await drain_both(drainer)
        assert engine.payloads(shape.base("memory"))["mem_1_0"]["value"] == "old"

    @pytest.mark.parametrize("stream", [HOME, OVERFLOW])
    async def test_a_purge_in_either_stream_deletes_those_of_both(
        self, died: dict[int, Receipt], queue: Pusher, drainer: MakeDrainer, stream: int
    ) -> None:
        if stream == OVERFLOW:
            await queue.jobs(*FILL)
        (purge,) = await queue.jobs(Purge(user_id=1))
        assert purge.partition == stream
        await drain_both(drainer)
        assert await all_dead_letters(queue.redis, queue.keys, 1) == []
        assert await queue.redis.hget(queue.keys.backlog, "dead") is None
        assert not await queue.redis.exists(queue.keys.guarded(HOME), queue.keys.guarded(OVERFLOW))

    async def test_a_running_drain_learns_of_dead_letters_of_the_other_stream(
        self, queue: Pusher, drainer: MakeDrainer, redis: Redis, keys: Keys, qdrant_proxy: QdrantProxy
    ) -> None:
        log, home = JobLog(redis, keys, reading(keys, partitions=1)), await held_lease(redis, keys, HOME, partitions=1)
        assert not (await log.read(home, max_jobs=1, max_bytes=1)).has_dead_letters
        await redis.sadd(keys.guarded(HOME), "1")  # a commit of the other stream
        assert (await log.read(home, max_jobs=1, max_bytes=1)).has_dead_letters

    async def test_all_are_replayed_in_the_order_of_their_first_push(
        self, redis: Redis, keys: Keys, dead: DeadLetters
    ) -> None:
        there = {"9-4294967296": "4-4294967296", "5-4294967296": ""}
        for entry_id, position in sorted(there.items()):
            await redis.xadd(keys.dead(OVERFLOW), {"j": "x", "r": position}, id=entry_id)
        for entry_id in ("5-0", "6-0"):
            await redis.xadd(keys.dead(HOME), {"j": "x"}, id=entry_id)
        expected = ["1/9-4294967296", "0/5-0", "1/5-4294967296", "0/6-0"]
        chosen = await choose(dead, Choice(everything=True))
        assert [str(receipt) async for receipt in chosen.in_order(dead)] == expected


async def test_a_write_of_arqs_client_goes_where_the_jobs_of_its_user_go(
    queue: Pusher, redis: Redis, redis_url: str, keys: Keys
) -> None:
    meta, clock = QueueMeta(partitions=1, limits=LIMITS, user_burst=1), RedisClock()
    await clock.refresh(redis)
    async with arq_pool(redis_url) as pool:
        jobs = []
        for number, write in enumerate((*FILL, memory(2, 1), memory(1, 1))):
            function, document = arguments(write, "msgpack")
            job_id = f"{keys.prefix}-{number}"
            jobs.append(await pool.enqueue_job(function, document, _queue_name=keys.writes_queue, _job_id=job_id))
        await redis.zadd(keys.writes_queue, {f"{keys.prefix}-{number}": number for number in range(4)})  # all are due
        taker = ArqTaker(redis, keys, meta, clock, poll_s=0.001)
        while await taker.look():
            pass
        receipts = [Receipt.parse(await job.result(timeout=1, poll_delay=0.01)) for job in jobs if job is not None]
    assert [receipt.partition for receipt in receipts] == [HOME, HOME, HOME, OVERFLOW]
    assert await redis.zscore(keys.drain_queue, keys.drain_job_id(OVERFLOW)) is not None
