"""How long a user waits behind another user of the same partition who has pushed many points at once.

python -m tests.studies.fairness --points 20000
python -m tests.studies.fairness --redis redis://HOST:6379 --qdrant http://HOST:6334 --points 1000000

Without servers, it starts a Valkey and an embedded engine. It runs one worker for each ``QUEUE_USER_BURST``, with its
own key prefix and collections, which are not removed from given servers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import partition_of
from tests.acceptance.processes import WorkerProcess
from tests.servers import EngineServer, RedisServer

PARTITIONS = 32
HEAVY = 1
TIMEOUT_S = 3600
PAUSE_S = 0.1


def other_user() -> int:
    """Return another user of the same partition."""
    same = partition_of(HEAVY, PARTITIONS)
    return next(user for user in count(HEAVY + 1) if partition_of(user, PARTITIONS) == same)


def points(number: int, dimension: int) -> Iterator[dict[str, Any]]:
    """Yield the points of the heavy user."""
    for one in range(number):
        vector = [1.0] * dimension
        vector[one % dimension] = 2.0
        yield {"user_id": HEAVY, "point_id": f"mem_{HEAVY}_{one}", "vector": array("f", vector).tobytes()}


async def measure(queue: MemoryQueue, options: argparse.Namespace) -> str:
    """Push the points of the heavy user, then one point after another of the other user, and wait for each."""
    user, vector, began = other_user(), array("f", [1.0] * options.dimension).tobytes(), time.monotonic()
    last = (await queue.upsert_many(points(options.points, options.dimension)))[-1]
    pushed_s = time.monotonic() - began
    heavy = asyncio.create_task(queue.wait_applied(last, timeout=TIMEOUT_S))
    waits_s: list[float] = []
    while not heavy.done() or not waits_s:
        asked = time.monotonic()
        receipt = await queue.upsert(user_id=user, point_id=f"mem_{user}_{len(waits_s)}", vector=vector)
        await queue.wait_applied(receipt, timeout=TIMEOUT_S)
        waits_s.append(time.monotonic() - asked)
        await asyncio.sleep(PAUSE_S)
    await heavy
    total_s = time.monotonic() - began
    others = f"first {waits_s[0]:.3f} s, median {statistics.median(waits_s):.3f} s, longest {max(waits_s):.3f} s"
    heavy_user = f"the heavy user pushed for {pushed_s:.1f} s and waited for {total_s:.1f} s"
    return f"the other user waited: {others} ({len(waits_s)} points); {heavy_user}"


async def study(burst: int, redis_url: str, qdrant_url: str, options: argparse.Namespace) -> None:
    """Run a worker with this ``QUEUE_USER_BURST``, and print what was measured."""
    name = f"study_{uuid.uuid4().hex[:12]}"
    environment = {
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": name,
        "QUEUE_PARTITIONS": str(PARTITIONS),
        "QUEUE_USER_BURST": str(burst),
        "QUEUE_MAX_JOBS": "0",
        "QUEUE_MAX_BYTES": "0",
        "QDRANT_MEMORIES_COLLECTION": f"{name}_m",
        "QDRANT_DOCUMENTS_COLLECTION": f"{name}_d",
        "QDRANT_VECTOR_DIMENSION": str(options.dimension),
    }
    worker = WorkerProcess("ingest", environment)
    try:
        await asyncio.to_thread(worker.wait_for, "started")
        async with MemoryQueue.connect(redis_url, prefix=name, timeout_s=60) as queue:
            print(f"QUEUE_USER_BURST={burst}: {await measure(queue, options)}", flush=True)
    finally:
        worker.close()


def main() -> None:
    """Run the study with each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="")
    parser.add_argument("--qdrant", default="")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--bursts", type=int, nargs="+", default=[0, 512])
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not options.redis:
            redis = RedisServer(directory / "redis")
            redis.start()
            stack.callback(redis.close)
        if not options.qdrant:
            engine = EngineServer(directory / "engine")
            engine.start()
            stack.callback(engine.stop)
        for burst in options.bursts:
            asyncio.run(study(burst, options.redis or redis.url, options.qdrant or engine.url, options))


if __name__ == "__main__":
    main()
