"""A rolling upgrade from the release before: its workers go on with what they know, and hold the rest in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Patch, Prune, Purge, Upsert, encode_job, partition_of
from memory_worker.contract.errors import Superseded
from memory_worker.contract.vectors import pack_vector
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import DEFAULT_PARTITIONS
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION, PARTITIONS, VECTOR, StartWorker, Stored, wait_applied
from tests.acceptance.processes import WorkerProcess
from tests.commands import run_here
from tests.release_before import command_of_the_release_before
from tests.tracing import recording

USER, OTHER = 7, 8

StartOld = Callable[[], WorkerProcess]


@pytest.fixture
def start_old(environment: dict[str, str], tmp_path: Path) -> Iterator[StartOld]:
    """Start workers of the release before."""
    command = command_of_the_release_before(tmp_path)
    started: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        started.append(WorkerProcess("all", environment, command=command))
        started[-1].wait_for("started")
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def memory(user_id: int, number: int, **payload: object) -> Upsert:
    payload = {"key": str(number), **payload}
    return Upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=VECTOR, payload=payload)


async def test_old_workers_go_on_with_old_jobs_and_hold_new_ones(
    environment: dict[str, str],
    start_old: StartOld,
    start_worker: StartWorker,
    stored: Stored,
    queue: MemoryQueue,
) -> None:
    start_old()
    assert partition_of(USER, PARTITIONS) != partition_of(OTHER, PARTITIONS)
    with recording() as spans, spans.app.start_as_current_span("app"):  # they ignore the trace context of a job
        known = await queue.push_many([memory(USER, 1), memory(USER, 2), memory(OTHER, 3)])
    await wait_applied(queue, known)

    patch = Patch(user_id=USER, point_ids=["mem_7_1"], set={"key": "10"})
    behind = await queue.push_many([patch, Delete(user_id=USER, point_ids=["mem_7_2"]), memory(USER, 4)])
    elsewhere = await queue.push_many([memory(OTHER, 5)])
    await wait_applied(queue, elsewhere)
    assert stored() == {("memory", None, f"mem_{user}_{n}"): n for user, n in ((7, 1), (7, 2), (8, 3), (8, 5))}
    status = json.loads(await asyncio.to_thread(run_here, "status", "--json", **environment))
    held = [part for part in status["partitions"] if part["waiting"]]
    assert [(part["partition"], part["waiting"], part["dead"]) for part in held] == [
        (partition_of(USER, PARTITIONS), 3, 0)
    ]

    start_worker("ingest")
    await wait_applied(queue, behind)
    places = {("memory", None, f"mem_{user}_{n}"): n for user, n in ((7, 4), (8, 3), (8, 5))}
    assert stored() == {**places, ("memory", None, "mem_7_1"): 10}


@pytest.mark.parametrize(
    "job",
    [
        Patch(user_id=USER, category="a", set={"key": "1"}),
        Prune(user_id=USER, file_id=1, version=1),
        Delete(user_id=USER, point_ids=["mem_7_1"], namespace="*"),
        Purge(user_id=USER, before=5),
        Purge(user_id=USER, other_than_model=5),
        Delete(user_id=USER, point_ids=["mem_7_1"], ref="mine"),
        Delete(user_id=USER, point_ids=["mem_7_1"], notify=True),
    ],
    ids=lambda job: type(job).__name__ if job.ref is None and not job.notify else "outcome",
)
async def test_each_new_job_is_stamped_with_the_new_version(
    job: Delete, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    old = Delete(user_id=USER, point_ids=["mem_7_1"])
    await queue.push_many([old, job, old])
    entries = await redis.xrange(keys.stream(partition_of(USER, DEFAULT_PARTITIONS)))
    assert [fields[b"v"] for _, fields in entries] == [b"1", b"2", b"1"]


async def test_the_replay_guard_of_the_release_before_is_kept(
    start_old: StartOld, start_worker: StartWorker, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    """A job that died under the old workers cannot undo what the new workers have applied since."""
    old = start_old()
    wrong = encode_job(
        Upsert(user_id=USER, point_id="mem_7_1", vector=pack_vector([1.0] * (DIMENSION + 1)), payload={"key": "1"})
    )
    partition = partition_of(USER, PARTITIONS)
    dead = await push(redis, keys, PARTITIONS, [(partition, wrong)], version=1)
    old.wait_for("dead_letter")
    old.close()

    start_worker("all")
    receipts = await queue.push_many([Patch(user_id=USER, point_ids=["mem_7_1"], set={"key": "2"})])
    await wait_applied(queue, receipts)
    letters = await DeadLetters.open(redis, keys)
    with pytest.raises(Superseded):
        await letters.replay(dead[0])
