"""A pause under load, with several worker processes: nothing is applied after it, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import json
import random

from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Receipt
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.acceptance.conftest import DIMENSION, PARTITIONS, Contents, StartWorker, latest, wait_applied
from tests.acceptance.oracle import Oracle, random_jobs
from tests.commands import run_here

META = QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=DIMENSION))
SMALL = {"BATCH_MAX_JOBS": "8", "LEASE_TTL_S": "4", "QDRANT_TIMEOUT_S": "1", "RESCUE_INTERVAL_S": "0.2"}


async def test_nothing_is_applied_after_a_pause_and_nothing_is_lost(
    environment: dict[str, str],
    start_worker: StartWorker,
    contents: Contents,
    queue: MemoryQueue,
    redis: Redis,
    keys: Keys,
) -> None:
    """Jobs are pushed all the time, which wakes workers. During the pause, one is killed and one starts."""
    oracle, receipts = Oracle(), list[Receipt]()
    await publish_meta(redis, keys, META)
    jobs = list(random_jobs(random.Random(7), list(range(1, 41)), 3_000, dimension=DIMENSION))
    for job in jobs:
        oracle.apply(job)

    async def push() -> None:
        for at in range(1, len(jobs), 50):
            receipts.extend(await queue.push_many(jobs[at : at + 50]))
            await asyncio.sleep(0.01)

    doomed, other = start_worker("ingest", **SMALL), start_worker("ingest", **SMALL)
    await queue.wait_applied((await queue.push_many(jobs[:1]))[0], timeout=30)
    pushing = asyncio.create_task(push())
    assert "paused since" in await asyncio.to_thread(run_here, "pause", "--reason", "backup", **environment)
    assert not pushing.done()
    before = contents()
    status = json.loads(await asyncio.to_thread(run_here, "status", "--json", **environment))
    assert (status["paused"]["reason"], status["draining"]) == ("backup", 0)
    assert status["waiting"] > 0
    doomed.kill()
    late = start_worker("ingest", **SMALL)
    await pushing
    assert contents() == before
    assert not [line for line in (*other.lines, *late.lines) if " rescued" in line]
    assert "resumed" in await asyncio.to_thread(run_here, "resume", **environment)
    await wait_applied(queue, latest(receipts))
    assert contents() == oracle.points
    assert [worker.terminate() for worker in (other, late)] == [0, 0]
