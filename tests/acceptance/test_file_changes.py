"""A file moves to other groups and is replaced, while workers die at each step: it has chunks at every moment."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from qdrant_client import grpc as q

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Condition, Patch, Prune, Receipt, Upsert, WriteJob
from memory_worker.failpoints import DRAIN_PLACES, VARIABLE
from memory_worker.store.filters import of_user
from tests.acceptance.conftest import VECTOR, Contents, StartWorker, latest, wait_applied
from tests.acceptance.oracle import Oracle
from tests.acceptance.processes import STOP_TIMEOUT_S, WorkerProcess

SHORT = {"LEASE_TTL_S": "3", "QDRANT_TIMEOUT_S": "1", "BATCH_MAX_JOBS": "3"}
USER, FILE = 7, 6
FEWEST_CHUNKS, MOST_CHUNKS = 2, 6  # with the move and the prune, they are at least two batches


def new_run(version: int, chance: random.Random) -> list[WriteJob]:
    """Return a move of the file, its new chunks with gaps, and the prune of the older ones."""
    group = {"group_key": f"g{version}"}
    indexes = chance.sample(range(MOST_CHUNKS), chance.randint(FEWEST_CHUNKS, MOST_CHUNKS))
    chunks = [
        Upsert(
            kind="document",
            user_id=USER,
            point_id=f"doc_{USER}_{FILE}_{index}",
            vector=VECTOR,
            payload={"file_id": FILE, "text": str(version), "_version": version, **group},
        )
        for index in sorted(indexes)
    ]
    return [
        Patch(user_id=USER, kind="document", file_id=FILE, set=group),
        *chunks,
        Prune(user_id=USER, file_id=FILE, version=version),
    ]


@contextmanager
def counted(channel: grpc.Channel, collection: str, seen: Counter[int]) -> Iterator[None]:
    """Count the chunks of the file again and again during the block; add to ``seen`` how often it had so many."""
    before, stop = seen.total(), threading.Event()
    request = q.ScrollPoints(
        collection_name=collection,
        filter=q.Filter(must=of_user(USER, [Condition("file_id", FILE)])),
        limit=100,
        with_payload=q.WithPayloadSelector(enable=False),
    )

    def count() -> None:
        points = q.PointsStub(channel)
        while not stop.is_set():
            seen[len(points.Scroll(request).result)] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert seen.total() > before


async def test_a_file_that_moves_and_is_replaced_is_never_without_chunks(
    seed: int,
    environment: dict[str, str],
    start_worker: StartWorker,
    contents: Contents,
    queue: MemoryQueue,
    qdrant_channel: grpc.Channel,
) -> None:
    chance, oracle = random.Random(seed), Oracle()

    async def push(version: int) -> None:
        jobs = new_run(version, chance)
        receipts.extend(await queue.push_many(jobs))
        for job in jobs:
            oracle.apply(job)

    receipts: list[Receipt] = []
    worker = start_worker("ingest", **SHORT)
    await push(1)
    await wait_applied(queue, latest(receipts))
    worker.terminate()
    collection, seen = environment["QDRANT_DOCUMENTS_COLLECTION"], Counter[int]()
    for position, place in enumerate(DRAIN_PLACES):
        await push(position + 2)
        doomed = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=kill@2"})
        await asyncio.to_thread(doomed.wait_for, "http")  # nothing changes while it is loaded, which takes longest
        with counted(qdrant_channel, collection, seen):
            assert await asyncio.to_thread(doomed.process.wait, STOP_TIMEOUT_S) == -signal.SIGKILL, place
        doomed.close()
    survivor = WorkerProcess("ingest", {**environment, **SHORT})
    try:
        await asyncio.to_thread(survivor.wait_for, "http")
        with counted(qdrant_channel, collection, seen):
            await wait_applied(queue, latest(receipts))
    finally:
        survivor.close()
    assert contents() == oracle.points
    print(dict(seen))
    assert 0 not in seen
