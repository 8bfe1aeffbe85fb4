"""With many users, several producers and two workers, the state of Qdrant at the end is exactly the expected one.

pytest -n 0 --no-cov tests/acceptance/test_convergence.py --jobs 100000
"""

from __future__ import annotations

import asyncio
import random

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, WriteJob
from tests.acceptance.conftest import DIMENSION, Contents, StartWorker, latest, wait_applied
from tests.acceptance.oracle import Oracle, random_jobs

USERS = 200
PRODUCERS = 4
TAKEN_OVER_WITHIN_S = 15.0


@pytest.fixture
def jobs(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--jobs"))


async def _produce(queue: MemoryQueue, seed: int, count: int, oracle: Oracle) -> list[Receipt]:
    """Push the jobs of all users, each user's in order; return the last receipt of each partition."""
    receipts: list[Receipt] = []

    async def produce(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        users = [user for user in range(1, USERS + 1) if user % PRODUCERS == number]
        jobs: list[WriteJob] = list(random_jobs(chance, users, count // PRODUCERS, dimension=DIMENSION))
        while jobs:
            size = chance.choice((1, 1, 7, 64, 300))
            chunk, jobs = jobs[:size], jobs[size:]
            receipts.extend(await queue.push_many(chunk))
            for job in chunk:
                oracle.apply(job)

    await asyncio.gather(*map(produce, range(PRODUCERS)))
    return latest(receipts)


async def test_two_workers_reach_the_state_of_the_oracle(
    seed: int, jobs: int, queue: MemoryQueue, start_worker: StartWorker, contents: Contents
) -> None:
    start_worker("ingest")
    start_worker("ingest")
    oracle = Oracle()
    await wait_applied(queue, await _produce(queue, seed, jobs, oracle))
    assert contents() == oracle.points


async def test_a_killed_worker_loses_nothing_and_resurrects_nothing(
    seed: int, jobs: int, queue: MemoryQueue, start_worker: StartWorker, contents: Contents
) -> None:
    doomed = start_worker("ingest", BATCH_MAX_JOBS="16", LOG_LEVEL="DEBUG")  # so that it is killed between batches
    oracle = Oracle()
    producing = asyncio.create_task(_produce(queue, seed, jobs, oracle))
    await asyncio.to_thread(doomed.wait_for, "batch_applied")
    last = await producing
    survivor = start_worker("ingest")
    doomed.kill()
    await wait_applied(queue, last, timeout_s=TAKEN_OVER_WITHIN_S)
    assert contents() == oracle.points
    assert survivor.terminate() == 0
