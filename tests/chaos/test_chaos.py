"""Producers push while workers and servers fail; at the end Qdrant must contain what the oracle says.

pytest tests/chaos --ops 200000 --seed 7
pytest tests/chaos --ops 50000 --topology sentinel      the primary of Redis is killed, too; or: cluster
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
import uuid
from collections import Counter
from pathlib import Path

import grpc
import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, WriteJob, partition_of
from memory_worker.contract.errors import PushedInPart, QueueError, QueueUnavailable
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION, drop_collections, latest, read_points, wait_applied
from tests.acceptance.oracle import Oracle, Payload, Place, number_of, random_jobs
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import connected
from tests.integration.proxies import QdrantProxy
from tests.servers import EngineServer, RedisServer
from tests.topologies import Topology
from tests.unit.plan_world import batch_of

USERS = 120
PRODUCERS = 4
WORKERS = 3
PARTITIONS = 16
USER_BURST = 16
"""So few that most users overflow after a fault, and leave the overflow streams again."""
MALFORMED_SHARE = 0.005
DRAINED_TIMEOUT_S = 60.0
RETRY_S = 0.05


class Producers:
    """Push until all jobs are stored. Jobs that may not be stored are pushed again before any other."""

    def __init__(self, redis: RedisServer | Topology, seed: int, ops: int, rate: float) -> None:
        self.redis = redis
        self._seed = seed
        self._ops = ops
        self._rate = rate
        self.oracle = Oracle()
        self.receipts: list[Receipt] = []
        self.malformed: set[str] = set()
        self.retries = 0
        self.waits_s: list[float] = []

    def connect(self) -> MemoryQueue:
        """Return a client of the queue."""
        return MemoryQueue.connect(self.redis.url, prefix=self.redis.prefix, timeout_s=2)

    async def run(self) -> None:
        await asyncio.gather(*(self._produce(number) for number in range(PRODUCERS)))

    async def _produce(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        users = [user for user in range(1, USERS + 1) if user % PRODUCERS == number]
        jobs: list[WriteJob] = list(random_jobs(chance, users, self._ops // PRODUCERS, dimension=DIMENSION))
        began, pushed = time.monotonic(), 0
        async with self.connect() as queue:
            while jobs:
                chunk = batch_of(jobs, chance.choice((1, 1, 5, 40)))
                jobs = jobs[len(chunk) :]
                await self._push(queue, chunk)
                for job in chunk:
                    self.oracle.apply(job)
                if chance.random() < MALFORMED_SHARE * len(chunk):
                    await self._push_malformed(chance.choice(users))
                pushed += len(chunk)
                ahead_s = pushed / (self._rate / PRODUCERS) - (time.monotonic() - began)
                await asyncio.sleep(max(0.0, ahead_s))

    async def _push(self, queue: MemoryQueue, chunk: list[WriteJob]) -> None:
        """Push until stored. A chunk that forms one batch ends in the same state if it is applied twice."""
        began = time.monotonic()
        while True:
            try:
                self.receipts += await queue.push_many(chunk)
                self.waits_s.append(time.monotonic() - began)
                return
            except (QueueUnavailable, PushedInPart):
                self.retries += 1
                await asyncio.sleep(RETRY_S)

    async def _push_malformed(self, user: int) -> None:
        """Push a malformed entry, which the client would refuse."""
        entry = (partition_of(user, PARTITIONS), b"\x93not a job")
        keys, replicas = Keys(self.redis.prefix), min_replicas(self.redis)
        async with connected(self.redis.url, timeout_s=2, prefix=keys.prefix) as redis:
            with contextlib.suppress(QueueError):
                receipts = await push(redis, keys, PARTITIONS, [entry], min_replicas=replicas)
                self.malformed |= {str(receipt) for receipt in receipts}


def min_replicas(redis: RedisServer | Topology) -> int:
    """Return how many replicas must have each job."""
    return int(isinstance(redis, Topology))


def environment_of(redis: RedisServer | Topology) -> dict[str, str]:
    """Return the settings of workers, except those of Qdrant."""
    return {
        "REDIS_URL": redis.url,
        "QUEUE_PREFIX": redis.prefix,
        "QUEUE_MIN_REPLICAS": str(min_replicas(redis)),
        "QUEUE_PARTITIONS": str(PARTITIONS),
        "QUEUE_USER_BURST": str(USER_BURST),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        # Leases that expire soon, so that many are taken over.
        "LEASE_TTL_S": "4",
        "QDRANT_TIMEOUT_S": "2",
        "REDIS_TIMEOUT_S": "2",
        "BATCH_MAX_JOBS": "32",
        "LOG_LEVEL": "WARNING",
    }


@pytest.mark.timeout(0)
async def test_nothing_is_lost_resurrected_or_reordered(
    seed: int, ops: int, rate: float, queue_redis: RedisServer | Topology, tmp_path: Path
) -> None:
    redis, keys = queue_redis, Keys(queue_redis.prefix)
    real = os.environ.get("TEST_QDRANT_URL")
    engine = None if real else EngineServer(tmp_path / "engine")
    if engine is not None:
        engine.start()
    base = f"chaos_{uuid.uuid4().hex[:12]}"
    names = {"QDRANT_MEMORIES_COLLECTION": f"{base}_m", "QDRANT_DOCUMENTS_COLLECTION": f"{base}_d"}
    async with connected(redis.url, prefix=redis.prefix) as connections:  # producers may start before workers
        meta = QueueMeta(partitions=PARTITIONS, min_replicas=min_replicas(redis), user_burst=USER_BURST)
        await publish_meta(connections, keys, meta)
    async with QdrantProxy(real or engine.url) as proxy:
        fleet = Fleet(WORKERS, {**names, **environment_of(redis), "QDRANT_URL": proxy.url})
        try:
            producers = Producers(redis, seed, ops, rate)
            faults = Faults(random.Random(f"{seed}/faults"), fleet, redis, proxy, engine)
            await _push_during_faults(producers, fleet, faults)
            with grpc.insecure_channel(proxy.target) as channel:
                found = read_points(channel, names)
            assert _differences(found, producers.oracle.points) == Counter()
            async with connected(redis.url, prefix=redis.prefix) as connections:
                dead_letters = await all_dead_letters(connections, keys, PARTITIONS)
            assert producers.malformed <= {str(found.receipt) for found in dead_letters}
            assert {found.reason for found in dead_letters} <= {"malformed"}
        finally:
            fleet.close()
            with grpc.insecure_channel((real or engine.url).removeprefix("http://")) as channel:
                drop_collections(channel, names)
            if engine is not None:
                engine.stop()


async def _push_during_faults(producers: Producers, fleet: Fleet, faults: Faults) -> None:
    """Push all jobs while there are faults, then wait until everything is applied."""
    keeping = asyncio.create_task(fleet.keep())
    failing = asyncio.create_task(faults.run())
    producing = asyncio.create_task(producers.run())
    await asyncio.wait([producing, failing, keeping], return_when=asyncio.FIRST_COMPLETED)
    if not producing.done():
        await asyncio.gather(failing, keeping)
    await producing
    await faults.stop()
    failing.cancel()
    try:
        async with producers.connect() as queue:
            await wait_applied(queue, latest(producers.receipts), timeout_s=DRAINED_TIMEOUT_S)
    finally:
        keeping.cancel()
        overflowed = sum(receipt.partition >= PARTITIONS for receipt in producers.receipts)
        counts = f"{fleet.restarts} workers replaced, {producers.retries} pushes repeated, {overflowed} jobs overflowed"
        print(f"{dict(faults.done)}; {counts}, {len(producers.malformed)} malformed")
        if isinstance(producers.redis, Topology):
            print(f"{producers.redis.failovers} failovers after a kill; {_waits(producers.waits_s)}")


def _waits(waits_s: list[float]) -> str:
    """Describe how long pushes took until they were acknowledged."""
    p50, p99 = (statistics.quantiles(waits_s, n=100)[rank - 1] for rank in (50, 99))
    return f"{len(waits_s)} pushes took {p50 * 1000:.1f} ms (p50), {p99:.2f} s (p99), {max(waits_s):.2f} s at most"


def _differences(found: dict[Place, Payload], expected: dict[Place, Payload]) -> Counter[str]:
    """Return the points that are different. Of those that another job wrote last, the order was changed."""
    differences: Counter[str] = Counter()
    for place in found.keys() | expected.keys():
        if place not in found:
            differences[f"lost {place}"] += 1
        elif place not in expected:
            differences[f"resurrected {place}"] += 1
        elif number_of(found[place]) != number_of(expected[place]):
            differences[f"reordered {place}"] += 1
        elif found[place] != expected[place]:
            differences[f"patched otherwise {place}: {found[place]}, expected {expected[place]}"] += 1
    return differences
