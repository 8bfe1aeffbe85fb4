"""Workers that die, or stop for a while, at each step of a batch: nothing is lost, nothing comes back."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Receipt, Upsert, WriteJob, partition_of
from memory_worker.failpoints import PLACES, VARIABLE
from memory_worker.queue.dead_letters import DeadLetter, DeadLetters
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.deadly import DEADLY
from tests.acceptance.oracle import Oracle, Place, random_jobs
from tests.acceptance.processes import WorkerProcess
from tests.dead_letters import all_dead_letters

PARTITIONS = 16
USERS = list(range(1, 41))
JOBS = 1_500
DRAINED_TIMEOUT_S = 40.0
# Short lives, so that a test need not wait long for a lease to end.
SHORT = {"LEASE_TTL_S": "3", "QDRANT_TIMEOUT_S": "1", "BATCH_MAX_JOBS": "16"}
MALFORMED = b"\xc1 never a job"
DEADLY_COMMAND = (sys.executable, str(Path(__file__).with_name("deadly.py")))


async def test_a_worker_that_dies_at_any_step(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], stored: Callable[[], dict[Place, int]]
) -> None:
    """One worker after another dies at the next place, in the middle of a backlog with bad entries in it."""
    oracle = Oracle()
    start_worker("ingest", **SHORT).terminate()
    last, poison = await _push_backlog(environment, oracle)
    for position, place in enumerate(PLACES):
        doomed = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=kill@{3 + position}"})
        assert doomed.process.wait(DRAINED_TIMEOUT_S) == -signal.SIGKILL
        doomed.close()
    start_worker("ingest", **SHORT)
    await _wait_drained(environment, last)
    assert stored() == oracle.points
    assert {str(dead_letter.receipt): dead_letter.reason for dead_letter in await _dead(environment)} == dict.fromkeys(
        poison, "malformed"
    )


@pytest.mark.parametrize("place", ["before_send", "sent", "before_commit"])
async def test_a_worker_that_stops_and_wakes_up_after_it_lost_its_lease(
    place: str,
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    oracle = Oracle()
    stopped = start_worker("ingest", **SHORT, **{VARIABLE: f"{place}=stop@4"})
    last, _ = await _push_backlog(environment, oracle)
    await asyncio.to_thread(stopped.wait_until_stopped)
    start_worker("ingest", **SHORT)
    await _wait_drained(environment, last)
    # What the stopped worker still has in hand is old by now: most of it would bring a deleted point back.
    last, _ = await _push_backlog(environment, oracle, seed=2)
    await _wait_drained(environment, last)
    stopped.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(stopped.wait_for, "lease_lost")
    assert stopped.terminate() == 0
    assert stored() == oracle.points


async def test_an_entry_that_kills_its_process(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], stored: Callable[[], dict[Place, int]]
) -> None:
    """Tried in a batch, then alone, then a dead letter as it came; what stands behind it is applied."""
    short = {**environment, "LEASE_TTL_S": "2.2", "QDRANT_TIMEOUT_S": "0.2"}
    start_worker("ingest", **short).terminate()
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        vector = [1.0] * DIMENSION
        points = [
            {"user_id": 7, "point_id": f"mem_7_{n}", "vector": vector, "payload": {"key": str(n)}} for n in range(5)
        ]
        receipts = await queue.upsert_many(points)
        crashes = 0
        while not await _dead(environment):
            doomed = WorkerProcess("ingest", {**short, VARIABLE: "decode=kill"})
            assert await asyncio.to_thread(doomed.process.wait, 30) == -signal.SIGKILL
            doomed.close()
            crashes += 1
            assert crashes < 10
        # The process that set the dead letter aside died of the entry behind it.
        assert crashes == 3 + 2 + 1
        [dead_letter] = await _dead(environment)
        assert (dead_letter.receipt, dead_letter.reason) == (receipts[0], "crashed")
        assert b"mem_7_0" in dead_letter.body
        start_worker("ingest", **short)
        await queue.wait_applied(receipts[-1], timeout=DRAINED_TIMEOUT_S)
    assert stored() == {("memory", None, f"mem_7_{n}"): n for n in range(1, 5)}


async def test_an_entry_that_kills_its_process_while_it_drains_others(
    environment: dict[str, str], stored: Callable[[], dict[Place, int]]
) -> None:
    """The blame for a death falls on all that was being tried, and in the end on the one entry alone."""
    chosen = {**environment, "BATCH_MAX_JOBS": "4", "QUEUE_PARTITIONS": "4", "RESCUE_INTERVAL_S": "0.1"}
    await _fix_partitions(chosen)
    oracle = Oracle()
    jobs: list[WriteJob] = [
        Upsert(user_id=user, point_id=f"mem_{user}_{n}", vector=[1.0] * DIMENSION, payload={"key": str(n)})
        for n in range(6)
        for user in (4, 2, 5, 1)  # of partitions 0 to 3
    ]
    for job in jobs:
        oracle.apply(job)
    jobs.insert(1, Upsert(user_id=4, point_id="mem_4_x", vector=[1.0] * DIMENSION, payload={"value": DEADLY}))
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        receipts = await queue.push_many(jobs)
        applied = asyncio.create_task(_wait_drained(environment, receipts[-4:]))
        blamed = await _run_until(applied, chosen)
    assert len(blamed) >= 3 + 2
    assert {0, 1, 2, 3} in blamed[:3]  # or it would be another test
    [dead_letter] = await _dead(environment)
    assert (dead_letter.receipt, dead_letter.reason) == (receipts[1], "crashed")
    assert DEADLY.encode() in dead_letter.body
    assert stored() == oracle.points


async def _fix_partitions(environment: dict[str, str]) -> None:
    redis = open_redis(environment["REDIS_URL"], timeout_s=5)
    meta = QueueMeta(partitions=int(environment["QUEUE_PARTITIONS"]), limits=Limits(dimension=DIMENSION))
    await publish_meta(redis, Keys(environment["QUEUE_PREFIX"]), meta)
    await close_redis(redis)


async def _run_until(done: asyncio.Task[None], environment: dict[str, str]) -> list[set[int]]:
    """Run one worker after another until ``done``; return which partitions each that was killed left behind."""
    keys, blamed = Keys(environment["QUEUE_PREFIX"]), list[set[int]]()
    redis = open_redis(environment["REDIS_URL"], timeout_s=5)
    while not done.done():
        worker = WorkerProcess("ingest", environment, command=DEADLY_COMMAND)
        ended = asyncio.create_task(asyncio.to_thread(worker.process.wait))
        await asyncio.wait([ended, done], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            worker.terminate()
        elif worker.process.returncode == -signal.SIGKILL:
            attempts = {number: await redis.hget(keys.attempts(number), "tried") for number in range(PARTITIONS)}
            blamed.append({number for number, tried in attempts.items() if tried})
            # As if they had run out: its leases, its sign of life, and what arq has noted of it.
            await redis.delete(*map(keys.lease, range(PARTITIONS)))
            await redis.delete(*[key async for key in redis.scan_iter(match=f"{keys.process_prefix}*")])
            jobs = map(keys.drain_job_id, range(PARTITIONS))
            await redis.delete(*map(keys.arq_in_progress, jobs))
        assert await ended in (0, -signal.SIGKILL), worker.lines
        worker.close()
    await close_redis(redis)
    await done
    return blamed


async def _push_backlog(
    environment: dict[str, str], oracle: Oracle, *, seed: int = 1
) -> tuple[list[Receipt], list[str]]:
    """Push jobs and some bad entries; return the last receipt of each partition, and those of the bad ones."""
    jobs: list[WriteJob] = list(random_jobs(random.Random(seed), USERS, JOBS, dimension=DIMENSION))
    last: dict[int, Receipt] = {}
    poison: list[str] = []
    redis = open_redis(environment["REDIS_URL"], timeout_s=5)
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        for start in range(0, JOBS, 100):
            for receipt in await queue.push_many(jobs[start : start + 100]):
                last[receipt.partition] = receipt
            bad = (partition_of(USERS[start % len(USERS)], PARTITIONS), MALFORMED)
            receipt = (await push(redis, Keys(environment["QUEUE_PREFIX"]), PARTITIONS, [bad]))[0]
            poison.append(str(receipt))
    for job in jobs:
        oracle.apply(job)
    await close_redis(redis)
    return list(last.values()), poison


async def _wait_drained(environment: dict[str, str], last: list[Receipt]) -> None:
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        await asyncio.gather(*(queue.wait_applied(receipt, timeout=DRAINED_TIMEOUT_S) for receipt in last))


async def _dead(environment: dict[str, str]) -> list[DeadLetter]:
    redis = open_redis(environment["REDIS_URL"], timeout_s=5)
    try:
        dead_letters = DeadLetters(redis, Keys(environment["QUEUE_PREFIX"]), PARTITIONS)
        return [dead_letter async for dead_letter in all_dead_letters(dead_letters)]
    finally:
        await close_redis(redis)
