"""A worker sleeps in a gap between the lease and the request: what it wakes up with is old, and is never written.

pytest -n 0 tests/acceptance/test_stops.py --stops 100
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Upsert, partition_of
from memory_worker.failpoints import VARIABLE
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.oracle import Place
from tests.acceptance.processes import WorkerProcess

PARTITIONS = 16
GAPS = ("read", "decode", "before_send", "serialized", "sending")
"""The places between the moment in which a lease is given and the one in which the request goes."""
SHORT = {"LEASE_TTL_S": "2.3", "QDRANT_TIMEOUT_S": "0.3", "RESCUE_INTERVAL_S": "0.1"}
TIMEOUT_S = 40.0


@pytest.mark.timeout(0)
async def test_nothing_old_is_written(
    pytestconfig: pytest.Config,
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    """Writes of one user make a drain, those of several make a group; a delete and a newer write overtake them."""
    start_worker("ingest", **SHORT).terminate()
    for number in range(int(pytestconfig.getoption("--stops"))):
        place, users = GAPS[number % len(GAPS)], _users(1 if number // len(GAPS) % 2 else 6)
        async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
            for user in users:
                await queue.push_many([_write(user, point, 1) for point in range(40)])
            sleeper = WorkerProcess("ingest", {**environment, **SHORT, VARIABLE: f"{place}=stop"})
            try:
                await asyncio.to_thread(sleeper.wait_until_stopped)
                other = WorkerProcess("ingest", {**environment, **SHORT})
                for user in users:
                    await queue.delete(user_id=user, point_ids=[_name(user, point) for point in range(0, 40, 2)])
                    await queue.push_many([_write(user, point, 2) for point in range(1, 40, 2)])
                last = [await queue.delete(user_id=user, point_id=_name(user, 99)) for user in users]
                await asyncio.gather(*(queue.wait_applied(receipt, timeout=TIMEOUT_S) for receipt in last))
                sleeper.process.send_signal(signal.SIGCONT)
                await asyncio.to_thread(sleeper.wait_for, "lease_")
                assert sleeper.terminate() == 0
                assert other.terminate() == 0
            finally:
                sleeper.close()
                other.close()
        expected = {("memory", None, _name(user, point)): 2 for user in users for point in range(1, 40, 2)}
        assert stored() == expected, f"after a sleep at {place}, with {len(users)} users"
        await _purge(environment, users)


def _users(count: int) -> list[int]:
    """Return users of different partitions."""
    return list({partition_of(user, PARTITIONS): user for user in range(1, 200)}.values())[:count]


def _name(user: int, point: int) -> str:
    return f"mem_{user}_{point}"


def _write(user: int, point: int, number: int) -> Upsert:
    return Upsert(user_id=user, point_id=_name(user, point), vector=[1.0] * DIMENSION, payload={"key": str(number)})


async def _purge(environment: dict[str, str], users: list[int]) -> None:
    worker = WorkerProcess("ingest", {**environment, **SHORT})
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        receipts = [await queue.purge(user_id=user) for user in users]
        await asyncio.gather(*(queue.wait_applied(receipt, timeout=TIMEOUT_S) for receipt in receipts))
    assert worker.terminate() == 0
    worker.close()
