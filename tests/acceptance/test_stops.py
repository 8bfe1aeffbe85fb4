"""A worker that is stopped between its lease and its request for longer than the lease writes nothing afterwards.

pytest -n 0 tests/acceptance/test_stops.py --stops 100
"""

from __future__ import annotations

import asyncio
import signal

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Limits, Upsert, partition_of
from memory_worker.failpoints import VARIABLE
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.acceptance.conftest import DIMENSION, PARTITIONS, VECTOR, StartWorker, Stored, wait_applied
from tests.acceptance.processes import WorkerProcess

PLACES = ("read", "decode", "before_send", "serialized", "sending")
"""Failpoints between the moment in which a lease is acquired and the one in which the request is sent."""
SHORT = {"LEASE_TTL_S": "2.3", "QDRANT_TIMEOUT_S": "0.3", "RESCUE_INTERVAL_S": "0.1"}


@pytest.mark.timeout(0)
async def test_a_worker_that_was_stopped_writes_nothing_old(
    pytestconfig: pytest.Config,
    environment: dict[str, str],
    queue: MemoryQueue,
    redis: Redis,
    keys: Keys,
    start_worker: StartWorker,
    stored: Stored,
) -> None:
    """Another worker applies deletes and newer writes while it is stopped."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=Limits(dimension=DIMENSION)))
    for number in range(int(pytestconfig.getoption("--stops"))):
        place, users = PLACES[number % len(PLACES)], _users(1 if number // len(PLACES) % 2 else 6)
        for user in users:
            await queue.push_many([_write(user, point, 1) for point in range(40)])
        stopped = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=stop"})
        try:
            await asyncio.to_thread(stopped.wait_until_stopped)
            other = start_worker("ingest", **SHORT)
            for user in users:
                await queue.delete(user_id=user, point_ids=[_name(user, point) for point in range(0, 40, 2)])
                await queue.push_many([_write(user, point, 2) for point in range(1, 40, 2)])
            await wait_applied(queue, [await queue.delete(user_id=user, point_id=_name(user, 99)) for user in users])
            stopped.process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(stopped.wait_for, "lease_")
            assert stopped.terminate() == 0
        finally:
            stopped.close()
        expected = {("memory", None, _name(user, point)): 2 for user in users for point in range(1, 40, 2)}
        assert stored() == expected, f"after a stop at {place}, with {len(users)} users"
        await wait_applied(queue, [await queue.purge(user_id=user) for user in users])
        assert other.terminate() == 0


def _users(count: int) -> list[int]:
    """Return users of different partitions."""
    return list({partition_of(user, PARTITIONS): user for user in range(1, 200)}.values())[:count]


def _name(user: int, point: int) -> str:
    return f"mem_{user}_{point}"


def _write(user: int, point: int, number: int) -> Upsert:
    return Upsert(user_id=user, point_id=_name(user, point), vector=VECTOR, payload={"key": str(number)})
