"""``memory-worker drain``: it ends with 0 only if nothing waits, and says what can never be applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from click.testing import Result
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, partition_of
from memory_worker.inspection.draining import DrainWatch
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.pausing import pause_queue, resume_queue
from memory_worker.queue.positions import Position
from memory_worker.queue.processes import beat
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.arq_producer import arguments, arq_pool
from tests.commands import invoked
from tests.integration.conftest import MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis, memory
from tests.integration.leases import held_lease
from tests.integration.overflowing import Pusher
from tests.integration.proxies import UPDATE, QdrantProxy, failing

Drain = Callable[..., Result]


@pytest.fixture
async def drain(redis: Redis, keys: Keys, redis_url: str) -> Drain:
    """Run the command in a thread."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))

    def run(*options: str) -> Result:
        return invoked("drain", *options, REDIS_URL=redis_url, QDRANT_URL="http://x:1", QUEUE_PREFIX=keys.prefix)

    return run


@pytest.mark.parametrize(
    ("first", "last", "waiting", "added", "left"),
    [
        ("", "", 0, 20, 0),
        ("5-0", "9-0", 5, 20, 5),
        ("7-0", "12-1", 6, 23, 3),
        ("9-0", "9-0", 1, 20, 1),
        ("9-1", "12-0", 9, 30, 0),
        ("8-0", "9-0", 9, 5, 9),  # somebody has made the stream anew
    ],
)
def test_what_is_left_of_an_earlier_time(first: str, last: str, waiting: int, added: int, left: int) -> None:
    assert Position(first, last, waiting, added).left_of(Position("5-0", "9-0", 5, 20)) == left


async def test_an_empty_queue_is_drained(drain: Drain) -> None:
    for options in ((), ("--wait",), ("--wait", "--empty")):
        done = await asyncio.to_thread(drain, *options)
        assert (done.exit_code, done.stdout) == (0, "nothing waits\n")


async def test_what_waits_is_reported(drain: Drain, redis: Redis, keys: Keys, pushed: Push) -> None:
    await pushed(memory(1, 1), memory(1, 2), partition=1, partitions=PARTITIONS)
    await pushed(memory(2, 1), partition=6, partitions=PARTITIONS)
    done = await asyncio.to_thread(drain)
    assert done.exit_code == 1
    assert done.stdout.startswith("waiting: 3 jobs in 2 partitions (1, 6)\n")


async def test_it_ends_while_producers_go_on(
    drain: Drain, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    """The jobs that were pushed before it began are applied by then, also those in the overflow stream."""

    async def push(number: int) -> None:
        await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(0))

    for number in range(200):
        await push(number)
    going_on = asyncio.Event()

    async def produce() -> None:
        number = 1000
        while not going_on.is_set():
            await push(number)
            number += 1

    async with running(settings(batch_max_jobs=8, queue_user_burst=16)):
        producing = asyncio.create_task(produce())
        done = await asyncio.to_thread(drain, "--wait", "--timeout", "60")
        points = await queue.count(user_id=1)
        going_on.set()
        await producing
        assert (done.exit_code, done.stdout) == (0, "nothing waits\n")
        assert points >= 200
        done = await asyncio.to_thread(drain, "--wait", "--empty", "--timeout", "60")
        assert done.exit_code == 0
        assert await redis.hget(keys.backlog, "jobs") is None  # type: ignore[misc]


async def test_a_pause_ends_it_at_once(drain: Drain, redis: Redis, keys: Keys, pushed: Push) -> None:
    await pushed(memory(1, 1), partitions=PARTITIONS)
    await beat(redis, keys, "0123", "ingest")
    await pause_queue(redis, keys, by="ops", reason="backup")
    done = await asyncio.to_thread(drain, "--wait")
    assert done.exit_code == 1
    assert "nothing can be applied: the queue is paused since" in done.stdout
    assert "by ops: backup; `memory-worker resume` ends the pause" in done.stdout


async def test_without_a_worker_it_ends_at_once(drain: Drain, redis: Redis, keys: Keys, pushed: Push) -> None:
    await pushed(memory(1, 1), partitions=PARTITIONS)
    await beat(redis, keys, "0123", "search")
    done = await asyncio.to_thread(drain, "--wait")
    assert done.exit_code == 1
    assert "no worker of the role ingest is running" in done.stdout


async def test_it_ends_once_only_held_partitions_are_left(redis: Redis, keys: Keys, pushed: Push, drain: Drain) -> None:
    """The overflow stream of a held partition waits for its home stream."""
    await beat(redis, keys, "0123", "all")
    await pushed(memory(1, 1), partition=1, partitions=PARTITIONS, version=CONTRACT_VERSION + 7)
    await pushed(memory(1, 2), partition=1 + PARTITIONS, partitions=PARTITIONS)
    ids = await pushed(memory(2, 1), partition=2, partitions=PARTITIONS)
    watch = await DrainWatch.start(redis, keys, everything=False)
    left = await watch.look()
    assert (left.obstacles, left.held) == ([], {1: f"contract version {CONTRACT_VERSION + 7}"})
    await redis.xdel(keys.stream(2), ids[0])
    done = await asyncio.to_thread(drain, "--wait")
    assert done.exit_code == 1
    assert f"partition 1 is held: needs contract version {CONTRACT_VERSION + 7}" in done.stdout
    assert "nothing can be applied: partition 1 waits for a worker with" in done.stdout


async def test_an_outage_is_waited_for_until_the_timeout(
    drain: Drain, redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, qdrant_proxy: QdrantProxy
) -> None:
    await beat(redis, keys, "0123", "all", ttl_s=60)
    partition = partition_of(1, PARTITIONS)
    await pushed(memory(1, 1), partition=partition, partitions=PARTITIONS)
    qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.UNAVAILABLE)
    await drainer(partitions=PARTITIONS).drain(partition)
    done = await asyncio.to_thread(drain, "--wait", "--timeout", "0.3")
    assert done.exit_code == 1
    assert done.stdout == f"waiting: 1 job in 1 partition ({partition})\ngave up after the timeout\n"


async def test_empty_waits_for_the_last_lease(drain: Drain, redis: Redis, keys: Keys) -> None:
    await held_lease(redis, keys, 0, ttl_s=0.5)
    done = await asyncio.to_thread(drain, "--empty")
    assert (done.exit_code, done.stdout) == (1, "waiting: 0 jobs, 1 partition being drained\n")
    assert (await asyncio.to_thread(drain)).exit_code == 0
    assert (await asyncio.to_thread(drain, "--wait", "--empty")).exit_code == 0


async def test_writes_of_arqs_own_client_count_until_they_are_applied(
    drain: Drain, redis: Redis, keys: Keys, redis_url: str, settings: MakeSettings, queue: MemoryQueue
) -> None:
    """Also those that are due later. What is enqueued after the start with a later time does not count."""
    async with arq_pool(redis_url) as pool:
        later = datetime.now(UTC) + timedelta(seconds=1)
        for number, due in ((1, None), (2, later)):
            _, document = arguments(memory(1, number), "msgpack")
            await pool.enqueue_job("upsert", document, _queue_name=keys.writes_queue, _defer_until=due)
        watch = await DrainWatch.start(redis, keys, everything=False)
        await pool.enqueue_job(
            "upsert",
            arguments(memory(1, 3), "msgpack")[1],
            _queue_name=keys.writes_queue,
            _defer_until=later + timedelta(days=1),
        )
        assert (await watch.look()).arq_writes == 2
        async with running(settings(queue_partitions=PARTITIONS)):
            while not (left := await watch.look()).is_nothing:
                assert not left.obstacles
                await asyncio.sleep(0.02)
            assert await queue.count(user_id=1) == 2
        assert (await (await DrainWatch.start(redis, keys, everything=True)).look()).arq_writes == 1


async def test_a_resumed_queue_is_drained(
    drain: Drain, redis: Redis, keys: Keys, settings: MakeSettings, queue: MemoryQueue
) -> None:
    async with running(settings()):
        await pause_queue(redis, keys, by="ops")
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
        assert (await asyncio.to_thread(drain, "--wait")).exit_code == 1
        await resume_queue(redis, keys)
        assert (await asyncio.to_thread(drain, "--wait", "--timeout", "60")).exit_code == 0


async def test_dead_letters_do_not_wait(drain: Drain, redis: Redis, keys: Keys) -> None:
    await redis.xadd(keys.dead(0), {"reason": "refused", "v": "1", "j": b"x"})
    done = await asyncio.to_thread(drain)
    assert (done.exit_code, done.stdout) == (0, "nothing waits; 1 dead letter\n")


async def test_the_overflow_stream_counts(drain: Drain, redis: Redis, keys: Keys) -> None:
    pusher = Pusher(redis, keys, burst=2, partition=0, partitions=PARTITIONS)
    await pusher.publish()
    await pusher.of(1, 9)
    await pusher.of(1, 3)
    done = await asyncio.to_thread(drain)
    assert done.stdout.startswith(f"waiting: 12 jobs in 2 partitions (0, {PARTITIONS})")
