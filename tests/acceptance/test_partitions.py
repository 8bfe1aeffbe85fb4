"""The number of partitions can change while producers push: nothing is lost or reordered."""

from __future__ import annotations

import asyncio
import random

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from tests.acceptance.conftest import DIMENSION, PARTITIONS, VECTOR, Contents, StartWorker, wait_applied
from tests.acceptance.oracle import Oracle, random_jobs
from tests.acceptance.processes import STOP_TIMEOUT_S, run_command

USERS = range(1, 40)
MOST_JOBS = 100_000


async def test_more_and_then_fewer_partitions_under_running_producers(
    environment: dict[str, str], start_worker: StartWorker, contents: Contents, queue: MemoryQueue
) -> None:
    oracle, last, enough = Oracle(), list[Receipt](), asyncio.Event()
    worker = start_worker("ingest")
    producing = asyncio.create_task(_produce(queue, oracle, last, enough))
    before = PARTITIONS
    for after in (24, 5):
        pushed = len(last)
        changing = asyncio.to_thread(run_command, "partitions", str(after), "--wait", "20", **environment)
        shown = f"{before} -> {after} partitions; start workers with QUEUE_PARTITIONS={after}"
        assert (await changing).stdout.splitlines() == [shown]
        # The worker with the old number ends: other workers drain its partitions now.
        assert await asyncio.to_thread(worker.process.wait, STOP_TIMEOUT_S) == 2
        worker = start_worker("ingest", QUEUE_PARTITIONS=str(after))
        assert len(last) > pushed
        before = after
    enough.set()
    await producing
    await wait_applied(queue, last[-len(USERS) * 4 :])
    assert contents() == oracle.points


async def test_the_number_does_not_change_while_a_job_waits(
    environment: dict[str, str], start_worker: StartWorker, queue: MemoryQueue
) -> None:
    assert start_worker("ingest").terminate() == 0
    await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
    refused = run_command("partitions", "24", "--wait", "0", status=1, **environment)
    assert "the queue is not empty: 1 jobs wait, 0 drains, 0 dead letters" in refused.stdout + refused.stderr
    assert run_command("partitions", **environment).stdout.splitlines() == ["16"]


async def _produce(queue: MemoryQueue, oracle: Oracle, last: list[Receipt], enough: asyncio.Event) -> None:
    """Push job after job until ``enough``, slowly enough that the queue is sometimes empty."""
    for job in random_jobs(random.Random(7), list(USERS), MOST_JOBS, dimension=DIMENSION):
        if enough.is_set():
            return
        last += await queue.push_many([job])
        oracle.apply(job)
        if len(last) % 10 == 0:
            await wait_applied(queue, last[-1:])
