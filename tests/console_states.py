"""Consoles without a worker, in states that are rare or hard to make: large, broken, just started."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.console.application import console
from memory_worker.console.sources import ConsoleSources
from memory_worker.contract import CollectionInfo
from memory_worker.contract.errors import QueueUnavailable
from memory_worker.http.server import http_server
from memory_worker.inspection.checks import Check
from memory_worker.inspection.history import Sample
from memory_worker.inspection.status import PartitionStatus, Status
from memory_worker.settings import Settings
from memory_worker.telemetry.health import Health

HOST = "127.0.0.1"
PARTITIONS = 1024
LONG = "a_namespace_with_a_name_that_is_as_long_as_names_may_be_0123456789"


def partition(number: int) -> PartitionStatus:
    """Return the state of a partition: some are busy, and some are held."""
    waiting = int(2000 * max(0.0, math.sin(number / 40)) ** 8)
    is_held = number % 211 == 7
    return PartitionStatus(
        partition=number,
        waiting=waiting + is_held,
        oldest_age_s=number / 3 if waiting or is_held else None,
        draining=number % 13 == 0 and waiting > 0,
        lease_s=7.4 if number % 13 == 0 and waiting else None,
        held=is_held,
        needs="kind 'a_kind_of_another_deployment' and contract version 12" if is_held else None,
        dead=number % 97 == 3,
    )


def overflow(home: int) -> PartitionStatus:
    busy = msgspec.structs.replace(partition(home), waiting=98_765, oldest_age_s=4000.0, needs=None, held=False)
    return msgspec.structs.replace(busy, partition=PARTITIONS + home, overflow_of=home)


def collection(number: int) -> CollectionInfo:
    return CollectionInfo(
        name="user_memories" if not number else f"user_memories_{LONG}_{number}",
        kind="memory",
        namespace=f"{LONG}_{number}" if number else None,
        status=("green", "yellow", "red")[number % 3],
        points=12_345_678 // (number + 1),
        indexed_vectors=11_000_000 // (number + 1),
        segments=8,
        dimension=1024,
        payload_indexes=["user_id", "category", "_point_id", "active", "created", "updated", "embedding_model_id"],
        indexing_held=number == 1,
        engine_version="1.20.0",
    )


def large() -> Status:
    """Return the state of a large and busy queue."""
    states = [*map(partition, range(PARTITIONS)), *map(overflow, (60, 61, 700))]
    waiting = sum(state.waiting for state in states)
    return Status(
        at=time.time(),
        partitions=states,
        waiting=waiting,
        waiting_bytes=4_100_000_000,
        oldest_age_s=4000.0,
        draining=12,
        dead=10_000,
        reads_waiting=321,
        max_jobs=1_000_000,
        max_bytes=4_294_967_296,
        redis_memory_bytes=6_100_000_000,
        redis_memory_limit_bytes=6_442_450_944,
        collections=[*map(collection, range(24))],
        store_error=None,
    )


def hour(now: float) -> list[Sample]:
    """Return the samples of an hour, with a gap of a few minutes."""
    found = []
    for number in range(360):
        if 120 < number < 150:
            continue
        wave = 1 + math.sin(number / 25) + 0.2 * math.sin(number * 1.7)
        found.append(
            Sample(
                at=now - 3600 + 10 * number,
                alive=12,
                reporting=11,
                applied=max(0.0, 2400 * wave),
                dead=3.0 if number > 300 else 0.0,
                reads=max(0.0, 800 * (2 - wave)),
                failed_reads=2.0 if number % 50 == 0 else 0.0,
                applied_p50_s=0.02 * (1.2 + wave),
                applied_p99_s=0.11 * (1.5 + wave),
                read_p50_s=0.004 * (1.5 + wave),
                read_p99_s=0.02 * (2 + wave) if number % 90 else 1.4,
                waiting=int(30_000 * max(0.0, wave)),
                oldest_age_s=max(0.0, 9 * wave),
            )
        )
    return found


@asynccontextmanager
async def away() -> AsyncIterator[Redis]:
    """Fail as a Redis that does not answer."""
    raise QueueUnavailable("Redis is not reachable: Timeout connecting to server")
    yield


CHECKS = [
    Check("Redis version", "ok", "9.1.2"),
    Check("Redis", "failed", "Redis is not reachable: Timeout connecting to server", "Check that it is running."),
    Check("Redis persistence", "warning", "no append-only file", "A restart of Redis loses all waiting jobs."),
]


def sources(
    status: Status | None, samples: Sequence[Sample], *, down: str = "", checks: Sequence[Check] = CHECKS, **given: Any
) -> ConsoleSources:
    """Return the sources of a console whose Redis is away. ``down`` is a component that is down."""
    health = Health(dict.fromkeys(("redis", "qdrant", "ingest", "search", "admin"), 1e6))
    for name in health.components():
        health.up(name)
    if down:
        health.down(down, f"UNAVAILABLE: failed to connect to all addresses; last error: {'connection refused ' * 5}")
    run: Future[list[Check]] = Future()
    run.set_result(list(checks))
    return ConsoleSources(
        settings=Settings(**given),
        role="all",
        process_id="f72fb8207b7c93f5",
        health=health,
        stats=lambda: status,
        history=lambda: list(samples),
        connect=away,
        run_checks=lambda: run,
    )


def states() -> dict[str, ConsoleSources]:
    """Return a console of each state."""
    now, status = time.time(), large()
    broken = msgspec.structs.replace(status, collections=[], store_error="UNAVAILABLE: connection refused")
    return {
        "large": sources(status, hour(now)),
        "redis-away": sources(None, hour(now - 120), down="redis"),
        "qdrant-away": sources(broken, hour(now), down="qdrant"),
        "started": sources(None, []),
    }


@contextmanager
def served(one: ConsoleSources) -> Iterator[int]:
    """Serve a console, and yield the port."""
    with http_server(HOST, 0, {}, console(one)) as port:
        yield port
