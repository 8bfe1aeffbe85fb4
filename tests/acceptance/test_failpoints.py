"""Workers die or stop at each step of a drain: nothing is lost, and nothing comes back."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sys
from pathlib import Path

from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Receipt, Upsert, WriteJob, partition_of
from memory_worker.failpoints import DRAIN_PLACES, VARIABLE
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION, PARTITIONS, VECTOR, Contents, StartWorker, Stored, latest, wait_applied
from tests.acceptance.deadly import DEADLY
from tests.acceptance.oracle import Oracle, random_jobs
from tests.acceptance.processes import STOP_TIMEOUT_S, WorkerProcess
from tests.dead_letters import all_dead_letters

USERS = list(range(1, 41))
JOBS = 1_500
# Leases that expire soon.
SHORT = {"LEASE_TTL_S": "3", "QDRANT_TIMEOUT_S": "1", "BATCH_MAX_JOBS": "16"}
META = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=DIMENSION))
MALFORMED = b"\xc1 never a job"
DEADLY_COMMAND = (sys.executable, str(Path(__file__).with_name("deadly.py")))


async def test_workers_that_die_at_each_step_lose_nothing(
    environment: dict[str, str],
    start_worker: StartWorker,
    contents: Contents,
    queue: MemoryQueue,
    redis: Redis,
    keys: Keys,
) -> None:
    """One worker after another dies at the next place, while the backlog also contains malformed entries."""
    oracle = Oracle()
    await publish_meta(redis, keys, META)
    last, malformed = await _push_backlog(queue, redis, keys, oracle)
    for position, place in enumerate(DRAIN_PLACES):
        doomed = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=kill@{3 + position}"})
        assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL
        doomed.close()
    start_worker("ingest", **SHORT)
    await wait_applied(queue, last)
    assert contents() == oracle.points
    assert {found.receipt: found.reason for found in await all_dead_letters(redis, keys, PARTITIONS)} == dict.fromkeys(
        malformed, "malformed"
    )


async def test_the_outcomes_of_workers_that_die_are_written_once(
    environment: dict[str, str], start_worker: StartWorker, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    await publish_meta(redis, keys, META)
    receipts = await queue.upsert_many(
        {"user_id": user, "point_id": f"mem_{user}_{n}", "vector": VECTOR, "ref": f"{user} {n}", "notify": True}
        for n in range(20)
        for user in USERS
    )
    for place, hits in itertools.product(("sent", "before_commit", "committed"), (1, 3)):
        doomed = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=kill@{hits}"})
        assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL, (place, hits)
        doomed.close()
    start_worker("ingest", **SHORT)
    await wait_applied(queue, latest(receipts))
    found = await queue.outcomes(count=1000)
    assert {(outcome.receipt, outcome.outcome) for outcome in found} == {(one, "applied") for one in receipts}
    assert len(found) == len(receipts)
    assert {state.state for state in await queue.states(receipts)} == {"applied"}


async def test_workers_that_continue_after_they_lost_their_leases_write_nothing(
    start_worker: StartWorker, contents: Contents, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    """Each stops at another place, one after the other, so that each has its own partitions by then."""
    oracle, stopped = Oracle(), list[WorkerProcess]()
    await publish_meta(redis, keys, META)
    last, _ = await _push_backlog(queue, redis, keys, oracle)
    for place in ("before_send", "sent", "before_commit"):
        stopped.append(start_worker("ingest", **SHORT, **{VARIABLE: f"{place}=stop@4"}))
        await asyncio.to_thread(stopped[-1].wait_until_stopped)
    start_worker("ingest", **SHORT)
    await wait_applied(queue, last)
    # The jobs of the stopped workers are old now: most of them would bring a deleted point back.
    last, _ = await _push_backlog(queue, redis, keys, oracle, seed=2)
    await wait_applied(queue, last)
    for worker in stopped:
        worker.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(worker.wait_for, "lease_lost")
        assert worker.terminate() == 0
    assert contents() == oracle.points


async def test_an_entry_that_kills_its_process_becomes_a_dead_letter(
    environment: dict[str, str], start_worker: StartWorker, stored: Stored, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    """It is first tried in a batch, then alone. The entries after it are applied."""
    short = {**environment, "LEASE_TTL_S": "2.2", "QDRANT_TIMEOUT_S": "0.2"}
    await publish_meta(redis, keys, META)
    jobs = [Upsert(user_id=7, point_id=f"mem_7_{n}", vector=VECTOR, payload={"key": str(n)}) for n in range(5)]
    receipts = await queue.push_many(jobs)
    crashes = 0
    while not await all_dead_letters(redis, keys, PARTITIONS):
        doomed = WorkerProcess("ingest", {**short, VARIABLE: "decode=kill"})
        assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL
        doomed.close()
        crashes += 1
        assert crashes < 10
    # The process that made it a dead letter died of the entry after it.
    assert crashes == 3 + 2 + 1
    [dead_letter] = await all_dead_letters(redis, keys, PARTITIONS)
    assert (dead_letter.receipt, dead_letter.reason) == (receipts[0], "crashed")
    assert b"mem_7_0" in dead_letter.body
    start_worker("ingest", **short)
    await wait_applied(queue, receipts[-1:])
    assert stored() == {("memory", None, f"mem_7_{n}"): n for n in range(1, 5)}


async def test_an_entry_that_kills_its_process_during_a_group_becomes_a_dead_letter(
    environment: dict[str, str], contents: Contents, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    """The first deaths count for every partition of the group, the last ones for this entry alone."""
    chosen = {**environment, "BATCH_MAX_JOBS": "4", "QUEUE_PARTITIONS": "4", "RESCUE_INTERVAL_S": "0.1"}
    await publish_meta(redis, keys, QueueMeta(partitions=4, limits=Limits(dimension=DIMENSION)))
    oracle = Oracle()
    jobs: list[WriteJob] = [
        Upsert(user_id=user, point_id=f"mem_{user}_{n}", vector=VECTOR, payload={"key": str(n)})
        for n in range(6)
        for user in (4, 2, 5, 1)  # of partitions 0 to 3
    ]
    for job in jobs:
        oracle.apply(job)
    jobs.insert(1, Upsert(user_id=4, point_id="mem_4_x", vector=VECTOR, payload={"value": DEADLY}))
    receipts = await queue.push_many(jobs)
    applied = asyncio.create_task(wait_applied(queue, receipts[-4:]))
    killed_during = await _run_until(applied, chosen, redis, keys)
    assert len(killed_during) >= 3 + 2
    assert {0, 1, 2, 3} in killed_during[:3]  # otherwise there was no group
    [dead_letter] = await all_dead_letters(redis, keys, PARTITIONS)
    assert (dead_letter.receipt, dead_letter.reason) == (receipts[1], "crashed")
    assert DEADLY.encode() in dead_letter.body
    assert contents() == oracle.points


async def _run_until(done: asyncio.Task[None], environment: dict[str, str], redis: Redis, keys: Keys) -> list[set[int]]:
    """Run one worker after another until ``done``; return the partitions that each killed worker was draining."""
    killed_during: list[set[int]] = []
    while not done.done():
        worker = WorkerProcess("ingest", environment, command=DEADLY_COMMAND)
        ended = asyncio.create_task(asyncio.to_thread(worker.process.wait))
        await asyncio.wait([ended, done], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            worker.terminate()
        elif worker.process.returncode == -signal.SIGKILL:
            attempts = {number: await redis.hget(keys.attempts(number), "tried") for number in range(PARTITIONS)}
            killed_during.append({number for number, tried in attempts.items() if tried})
            # As if they had expired: its leases, its sign of life, and arq's marks.
            await redis.delete(*map(keys.lease, range(PARTITIONS)))
            await redis.delete(*[key async for key in redis.scan_iter(match=f"{keys.process_prefix}*")])
            jobs = map(keys.drain_job_id, range(PARTITIONS))
            await redis.delete(*map(keys.arq_in_progress, jobs))
        assert await ended in (0, -signal.SIGKILL), worker.lines
        worker.close()
    await done
    return killed_during


async def _push_backlog(
    queue: MemoryQueue, redis: Redis, keys: Keys, oracle: Oracle, *, seed: int = 1
) -> tuple[list[Receipt], list[Receipt]]:
    """Push jobs and malformed entries; return the last receipt of each partition, and those of malformed entries."""
    jobs: list[WriteJob] = list(random_jobs(random.Random(seed), USERS, JOBS, dimension=DIMENSION))
    receipts: list[Receipt] = []
    malformed: list[Receipt] = []
    for start in range(0, JOBS, 100):
        receipts += await queue.push_many(jobs[start : start + 100])
        partition = partition_of(USERS[start % len(USERS)], PARTITIONS)
        malformed += await push(redis, keys, PARTITIONS, [(partition, MALFORMED)])
    for job in jobs:
        oracle.apply(job)
    return latest(receipts), malformed
