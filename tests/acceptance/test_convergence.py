"""Many users, several producers, two worker processes: Qdrant ends in exactly the state that was asked for."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, WriteJob
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.oracle import Oracle, Place, random_jobs
from tests.acceptance.processes import WorkerProcess

USERS = 200
JOBS = 20_000
PRODUCERS = 4
DRAINED_TIMEOUT_S = 90.0
REDRAINED_WITHIN_S = 15.0


@pytest.fixture
def seed() -> int:
    """Printed with a failure, so that it can be run again: ``TEST_SEED=... pytest ...``."""
    number = int(os.environ.get("TEST_SEED", random.randrange(2**32)))
    print(f"TEST_SEED={number}")
    return number


async def test_two_workers_end_in_the_state_of_the_oracle(
    seed: int,
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    start_worker("ingest")
    start_worker("ingest")
    oracle = Oracle()
    last = await _produce(environment, seed, oracle)
    await _wait_drained(environment, last)
    assert stored() == oracle.points


async def test_a_killed_worker_loses_nothing_and_resurrects_nothing(
    seed: int,
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    # Small batches, so that the kill comes in the middle of many.
    doomed = start_worker("ingest", BATCH_MAX_JOBS="16", LOG_LEVEL="DEBUG")
    oracle = Oracle()
    producing = asyncio.create_task(_produce(environment, seed, oracle))
    await asyncio.to_thread(doomed.wait_for, "batch_applied")
    last = await producing
    survivor = start_worker("ingest")
    doomed.kill()
    killed = time.monotonic()
    await _wait_drained(environment, last)
    print(f"drained {time.monotonic() - killed:.1f} s after the kill")
    assert time.monotonic() - killed < REDRAINED_WITHIN_S
    assert stored() == oracle.points
    assert survivor.terminate() == 0


async def _produce(environment: dict[str, str], seed: int, oracle: Oracle) -> list[Receipt]:
    """Push the jobs of all users, each user's in order; return the last receipt of each partition."""
    last: dict[int, Receipt] = {}
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        await asyncio.gather(*(_producer(queue, number, seed, oracle, last) for number in range(PRODUCERS)))
    return list(last.values())


async def _producer(queue: MemoryQueue, number: int, seed: int, oracle: Oracle, last: dict[int, Receipt]) -> None:
    chance = random.Random(f"{seed}/{number}")
    users = [user for user in range(1, USERS + 1) if user % PRODUCERS == number]
    jobs: list[WriteJob] = list(random_jobs(chance, users, JOBS // PRODUCERS, dimension=DIMENSION))
    while jobs:
        size = chance.choice((1, 1, 7, 64, 300))
        chunk, jobs = jobs[:size], jobs[size:]
        for receipt in await queue.push_many(chunk):
            if receipt.partition not in last or _order(receipt) > _order(last[receipt.partition]):
                last[receipt.partition] = receipt
        for job in chunk:
            oracle.apply(job)


async def _wait_drained(environment: dict[str, str], last: list[Receipt]) -> None:
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        await asyncio.gather(*(queue.wait_applied(receipt, timeout=DRAINED_TIMEOUT_S) for receipt in last))


def _order(receipt: Receipt) -> tuple[int, ...]:
    return tuple(int(part) for part in receipt.entry_id.split("-"))
