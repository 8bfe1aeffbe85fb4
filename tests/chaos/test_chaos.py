"""Producers push while a nemesis kills, stops, freezes and cuts off; an oracle says what must be in Qdrant at the end.

    pytest tests/chaos --ops 200000 --seed 7

Lost, resurrected, reordered, foreign or stuck: each would show as a difference between Qdrant and the oracle, or as a
backlog that does not end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections import Counter
from pathlib import Path

import grpc
import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt, WriteJob, partition_of
from memory_worker.contract.errors import PushedInPart, QueueError, QueueUnavailable
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION, drop_collections, read_points
from tests.acceptance.oracle import Oracle, random_jobs
from tests.chaos.fleet import Fleet
from tests.chaos.nemesis import Nemesis
from tests.dead_letters import all_dead_letters
from tests.integration.proxies import QdrantProxy
from tests.servers import EngineServer, RedisServer

USERS = 120
PRODUCERS = 4
WORKERS = 3
PARTITIONS = 16
POISON_SHARE = 0.005
HEALED_TIMEOUT_S = 60.0
RETRY_S = 0.05


class Producers:
    """Push until all jobs are stored; what is not known to be stored is pushed again before anything else."""

    def __init__(self, url: str, seed: int, ops: int, rate: float) -> None:
        self.url = url
        self._seed = seed
        self._ops = ops
        self._rate = rate
        self.oracle = Oracle()
        self.last: dict[int, Receipt] = {}
        self.poison: set[str] = set()
        self.retries = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._produce(number) for number in range(PRODUCERS)))

    async def _produce(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        users = [user for user in range(1, USERS + 1) if user % PRODUCERS == number]
        jobs: list[WriteJob] = list(random_jobs(chance, users, self._ops // PRODUCERS, dimension=DIMENSION))
        began, pushed = time.monotonic(), 0
        async with MemoryQueue.connect(self.url, timeout_s=2) as queue:
            while jobs:
                size = chance.choice((1, 1, 5, 40))
                chunk, jobs = jobs[:size], jobs[size:]
                await self._push(queue, chunk)
                for job in chunk:
                    self.oracle.apply(job)
                if chance.random() < POISON_SHARE * size:
                    await self._push_poison(chance.choice(users))
                pushed += len(chunk)
                ahead_s = pushed / (self._rate / PRODUCERS) - (time.monotonic() - began)
                await asyncio.sleep(max(0.0, ahead_s))

    async def _push(self, queue: MemoryQueue, chunk: list[WriteJob]) -> None:
        """Push until stored. Once more is harmless: the chunk ends in the same state applied twice."""
        while True:
            try:
                for receipt in await queue.push_many(chunk):
                    self.last[receipt.partition] = max(receipt, self.last.get(receipt.partition, receipt), key=_order)
                return
            except (QueueUnavailable, PushedInPart):
                self.retries += 1
                await asyncio.sleep(RETRY_S)

    async def _push_poison(self, user: int) -> None:
        """Push what can never be applied, past the checks of the client."""
        partition = partition_of(user, PARTITIONS)
        redis = open_redis(self.url, timeout_s=2)
        with contextlib.suppress(QueueError):
            receipt = (await push(redis, Keys(), PARTITIONS, [(partition, b"\x93not a job")]))[0]
            self.poison.add(str(receipt))
        await close_redis(redis)


@pytest.mark.timeout(0)
async def test_nothing_is_lost_or_resurrected(
    seed: int,
    ops: int,
    rate: float,
    tmp_path: Path,
) -> None:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    real = os.environ.get("TEST_QDRANT_URL")
    engine = None if real else EngineServer(tmp_path / "engine")
    if engine is not None:
        engine.start()
    base = f"chaos_{uuid.uuid4().hex[:12]}"
    names = {"QDRANT_MEMORIES_COLLECTION": f"{base}_m", "QDRANT_DOCUMENTS_COLLECTION": f"{base}_d"}
    await _fix_partitions(redis.url)
    async with QdrantProxy(real or engine.url) as proxy:
        fleet = Fleet(
            WORKERS,
            {
                **names,
                "REDIS_URL": redis.url,
                "QDRANT_URL": proxy.url,
                "QUEUE_PARTITIONS": str(PARTITIONS),
                "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
                # Short lives, so that many leases are taken over in a short run.
                "LEASE_TTL_S": "4",
                "QDRANT_TIMEOUT_S": "2",
                "REDIS_TIMEOUT_S": "2",
                "BATCH_MAX_JOBS": "32",
                "LOG_LEVEL": "WARNING",
            },
        )
        try:
            producers = Producers(redis.url, seed, ops, rate)
            nemesis = Nemesis(random.Random(f"{seed}/nemesis"), fleet, redis, proxy, engine)
            await _rage(producers, fleet, nemesis)
            await _judge(producers, redis.url, proxy.target, names)
        finally:
            fleet.close()
            redis.kill()
            with grpc.insecure_channel((real or engine.url).removeprefix("http://")) as channel:
                drop_collections(channel, names)
            if engine is not None:
                engine.stop()


async def _fix_partitions(url: str) -> None:
    """The producers may be faster than the first worker; both must count alike."""
    redis = open_redis(url, timeout_s=5)
    await publish_meta(redis, Keys(), QueueMeta(partitions=PARTITIONS))
    await close_redis(redis)


async def _rage(producers: Producers, fleet: Fleet, nemesis: Nemesis) -> None:
    """Push everything under attack; then end the attack and wait until nothing is left to do."""
    keeping = asyncio.create_task(fleet.keep())
    raging = asyncio.create_task(nemesis.rage())
    producing = asyncio.create_task(producers.run())
    await asyncio.wait([producing, raging, keeping], return_when=asyncio.FIRST_COMPLETED)
    if not producing.done():
        await asyncio.gather(raging, keeping)
    await producing
    await nemesis.relent()
    raging.cancel()
    healed = time.monotonic()
    try:
        await _wait_drained(producers)
    finally:
        keeping.cancel()
        print(
            f"{dict(nemesis.done)}; {fleet.restarts} workers replaced, {producers.retries} pushes tried again, ", end=""
        )
        print(f"{len(producers.poison)} poison; drained {time.monotonic() - healed:.1f} s after the last harm")


async def _judge(producers: Producers, redis_url: str, qdrant: str, names: dict[str, str]) -> None:
    with grpc.insecure_channel(qdrant) as channel:
        found = read_points(channel, names)
    assert _differences(found, producers.oracle.points) == Counter()
    dead = await _dead(redis_url)
    assert producers.poison <= set(dead)
    assert set(dead.values()) <= {"malformed"}


async def _wait_drained(producers: Producers) -> None:
    last = producers.last.values()
    async with MemoryQueue.connect(producers.url) as queue:
        await asyncio.gather(*(queue.wait_applied(receipt, timeout=HEALED_TIMEOUT_S) for receipt in last))


async def _dead(url: str) -> dict[str, str]:
    redis = open_redis(url, timeout_s=5)
    try:
        return {
            str(dead_letter.receipt): dead_letter.reason
            async for dead_letter in all_dead_letters(DeadLetters(redis, Keys(), PARTITIONS))
        }
    finally:
        await close_redis(redis)


def _differences(found: dict[object, int], expected: dict[object, int]) -> Counter[str]:
    """Name each point that is not as it must be."""
    differences: Counter[str] = Counter()
    for place in found.keys() | expected.keys():
        if place not in found:
            differences[f"lost {place}"] += 1
        elif place not in expected:
            differences[f"resurrected {place}"] += 1
        elif found[place] != expected[place]:
            differences[f"reordered {place}"] += 1
    return differences


def _order(receipt: Receipt) -> tuple[int, ...]:
    return tuple(int(part) for part in receipt.entry_id.split("-"))
