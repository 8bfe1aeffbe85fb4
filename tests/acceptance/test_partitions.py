"""The number of partitions changes under running producers: nothing is lost, and nobody's order."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.oracle import Oracle, Place, random_jobs
from tests.acceptance.processes import STOP_TIMEOUT_S, WorkerProcess

USERS = range(1, 40)
MOST_JOBS = 100_000
APPLIED_TIMEOUT_S = 30.0


async def test_more_and_then_fewer_partitions_under_running_producers(
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    oracle, last, enough = Oracle(), list[Receipt](), asyncio.Event()
    worker = start_worker("ingest")
    producing = asyncio.create_task(_produce(environment, oracle, last, enough))
    before = 16
    for after in (24, 5):
        pushed = len(last)
        assert await asyncio.to_thread(_change, environment, after) == (
            0,
            f"{before} -> {after} partitions; start workers with QUEUE_PARTITIONS={after}\n",
        )
        # What runs with the old number ends, and says why, instead of draining partitions that are others' now.
        assert await asyncio.to_thread(worker.process.wait, STOP_TIMEOUT_S) == 2
        worker = start_worker("ingest", QUEUE_PARTITIONS=str(after))
        assert len(last) > pushed
        before = after
    enough.set()
    await producing
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        for receipt in last[-len(USERS) * 4 :]:
            await queue.wait_applied(receipt, timeout=APPLIED_TIMEOUT_S)
    assert stored() == oracle.points


async def test_it_does_not_change_while_anything_waits(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("ingest")
    assert worker.terminate() == 0
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        await queue.upsert(user_id=1, point_id="mem_1_1", vector=[1.0] * DIMENSION)
    status, output = _change(environment, 24, wait_s=0)
    assert status == 1
    assert "the queue is not empty: 1 jobs wait, 0 drains, 0 dead letters" in output
    assert _change(environment, None) == (0, "16\n")


def _change(environment: dict[str, str], number: int | None, *, wait_s: float = 20) -> tuple[int, str]:
    asked = [] if number is None else [str(number), "--wait", str(wait_s)]
    done = subprocess.run(
        [sys.executable, "-m", "memory_worker", "partitions", *asked],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    *where, said = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in where] == ["Redis", "Qdrant"]
    return done.returncode, f"{said}\n"


async def _produce(environment: dict[str, str], oracle: Oracle, last: list[Receipt], enough: asyncio.Event) -> None:
    """Push one job after the other until it is enough, not so fast that something waits at every moment."""
    chance = random.Random(7)
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        for job in random_jobs(chance, list(USERS), MOST_JOBS, dimension=DIMENSION):
            if enough.is_set():
                return
            receipt = (await queue.push_many([job]))[0]
            last.append(receipt)
            oracle.apply(job)
            if len(last) % 10 == 0:
                await queue.wait_applied(receipt, timeout=APPLIED_TIMEOUT_S)
