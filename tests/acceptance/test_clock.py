"""A worker whose own clock is an hour off works all the same: Redis's clock is the one that counts."""

from __future__ import annotations

import sys

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.processes import WorkerProcess

HOUR_S = 3600
# Not the whole process: gRPC asks both Python and the system for the time, and must hear the same from both.
SKEWED = """
import time, types
import arq.utils, memory_worker.wire.clock

def skewed():
    return time.time() + {skew_s}

arq.utils.time = skewed
memory_worker.wire.clock.time = types.SimpleNamespace(time=skewed, monotonic=time.monotonic)
from memory_worker.__main__ import main
main()
"""


@pytest.mark.parametrize("skew_s", [-HOUR_S, HOUR_S])
async def test_a_clock_that_is_an_hour_off(skew_s: int, environment: dict[str, str]) -> None:
    worker = WorkerProcess("all", environment, command=[sys.executable, "-c", SKEWED.format(skew_s=skew_s)])
    try:
        worker.wait_for("started")
        async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
            vector = [1.0] * DIMENSION
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=vector)
            await queue.wait_applied(receipt, timeout=10)
            assert [hit.point_id for hit in await queue.search(user_id=1, vector=vector)] == ["mem_1_1"]
        assert worker.terminate() == 0
    finally:
        worker.close()
