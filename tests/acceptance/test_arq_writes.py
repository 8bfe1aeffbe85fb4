"""Writes by arq's own client, taken over by worker processes that die or stop: each is stored once, and in order."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from arq import ArqRedis
from arq.jobs import Job
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, WriteJob
from memory_worker.failpoints import TAKER_PLACES, VARIABLE
from memory_worker.wire.keys import Keys
from tests.acceptance.conftest import DIMENSION, PARTITIONS, Contents, StartWorker, latest, wait_applied
from tests.acceptance.oracle import Oracle, random_jobs
from tests.acceptance.processes import STOP_TIMEOUT_S, WorkerProcess, run_command
from tests.arq_producer import arguments, arq_pool
from tests.dead_letters import all_dead_letters

USERS = list(range(1, 21))
EACH_TIME = 300
ARQ = str(Path(sys.executable).with_name("arq"))


class App:
    """An app that enqueues random writes by arq's own client. Its job ids sort as its jobs."""

    def __init__(self, pool: ArqRedis, keys: Keys, seed: int) -> None:
        self.oracle = Oracle()
        self.jobs: list[Job] = []
        self._pool = pool
        self._keys = keys
        self._random = random.Random(seed)

    async def enqueue(self) -> None:
        for job in self._some():
            self.oracle.apply(job)
            function, document = arguments(job, "msgpack")
            name = f"{self._keys.prefix}-{len(self.jobs):08}"
            enqueued = await self._pool.enqueue_job(
                function, document, _job_id=name, _queue_name=self._keys.writes_queue
            )
            assert enqueued is not None
            self.jobs.append(enqueued)

    def _some(self) -> Iterable[WriteJob]:
        return random_jobs(self._random, USERS, EACH_TIME, dimension=DIMENSION)


async def test_takers_that_die_or_stop_lose_nothing(
    environment: dict[str, str],
    start_worker: StartWorker,
    contents: Contents,
    queue: MemoryQueue,
    redis: Redis,
    keys: Keys,
    seed: int,
) -> None:
    start_worker("ingest").terminate()
    async with arq_pool(environment["REDIS_URL"]) as pool:
        app = App(pool, keys, seed)
        for place in TAKER_PLACES:
            await app.enqueue()
            doomed = WorkerProcess("ingest", {**environment, VARIABLE: f"{place}=kill"})
            assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL
            doomed.close()
        await app.enqueue()
        stopped = start_worker("ingest", **{VARIABLE: "arq_writes_read=stop"})
        await asyncio.to_thread(stopped.wait_until_stopped)
        start_worker("ingest")
        await app.enqueue()
        receipts = [Receipt.parse(await job.result(timeout=60, poll_delay=0.01)) for job in app.jobs]
        await wait_applied(queue, latest(receipts))
        # What the stopped taker has read is old now. Stored again, it would bring deleted points back.
        stopped.process.send_signal(signal.SIGCONT)
        await app.enqueue()
        receipts += [Receipt.parse(await job.result(timeout=60, poll_delay=0.01)) for job in app.jobs[len(receipts) :]]
        assert stopped.terminate() == 0
    assert len(set(receipts)) == len(app.jobs)
    await wait_applied(queue, latest(receipts))
    assert contents() == app.oracle.points
    assert await all_dead_letters(redis, keys, PARTITIONS) == []
    assert await redis.zcard(keys.writes_queue) == 0


async def test_waiting_writes_are_shown(environment: dict[str, str], start_worker: StartWorker, keys: Keys) -> None:
    start_worker("search")
    async with arq_pool(environment["REDIS_URL"]) as pool:
        job = await pool.enqueue_job("purge", {"user_id": 1}, _queue_name=keys.writes_queue)
        assert job is not None
        assert "; 1 writes of arq's own client; " in run_command("status", **environment).stdout
        assert json.loads(run_command("status", "--json", **environment).stdout)["arq_writes_waiting"] == 1
        checks = {check["name"]: check for check in json.loads(run_command("check", "--json", **environment).stdout)}
        assert checks["workers"]["seen"] == "1 search; 1 writes of arq's own client wait"
        assert "--role ingest" in checks["workers"]["advice"]
        start_worker("ingest")
        assert Receipt.parse(await job.result(timeout=30, poll_delay=0.01))


@pytest.mark.parametrize("options", [(), ("--check",), ("--burst",)])
def test_arq_cannot_run_the_worker_and_says_what_can(options: tuple[str, ...], tmp_path: Path) -> None:
    done = run_command("memory_worker.WorkerSettings", *options, program=[ARQ], cwd=tmp_path, status=1)
    assert done.stderr == "memory_worker has no WorkerSettings for the arq command. Run: memory-worker run\n"
    assert done.stdout == ""
