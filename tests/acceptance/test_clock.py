"""A worker with a wrong clock works, because only Redis's clock matters."""

from __future__ import annotations

import sys

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from tests.acceptance.conftest import VECTOR
from tests.acceptance.processes import WorkerProcess

HOUR_S = 3600
# Only these two modules: gRPC reads the time through Python and through the system, and needs the same from both.
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
async def test_a_worker_with_a_wrong_clock_works(skew_s: int, environment: dict[str, str], queue: MemoryQueue) -> None:
    worker = WorkerProcess("all", environment, command=[sys.executable, "-c", SKEWED.format(skew_s=skew_s)])
    try:
        worker.wait_for("started")
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
        await queue.wait_applied(receipt, timeout=10)
        assert [hit.point_id for hit in await queue.search(user_id=1, vector=VECTOR)] == ["mem_1_1"]
        assert worker.terminate() == 0
    finally:
        worker.close()
