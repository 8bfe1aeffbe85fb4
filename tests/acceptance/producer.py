"""A program of a producer: it pushes, waits, searches, and causes errors. It needs only msgspec and redis.

    python tests/acceptance/producer.py redis://127.0.0.1:6399 [QUEUE_PREFIX [DIMENSION]]

A worker must run there. It prints what it found and exits with 1 if anything is wrong.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from importlib.util import find_spec

from memory_worker import (
    InvalidJob,
    MemoryQueue,
    NotApplied,
    QueueUnavailable,
    ReadFailed,
    Receipt,
    SyncMemoryQueue,
)

USER = 1730
OF_A_WORKER = ("arq", "grpc", "prometheus_client", "pydantic", "qdrant_client", "click", "rich", "uvicorn")


async def raises(expected: type[Exception], work: Awaitable[object]) -> str:
    """Return the message of the error that ``work`` raises."""
    try:
        found = await work
    except expected as error:
        return str(error)
    raise AssertionError(f"{expected.__name__} was expected, got {found!r}")


async def push_and_search(queue: MemoryQueue, dimension: int) -> None:
    vector = [1.0] + [0.0] * (dimension - 1)
    receipt = await queue.upsert(user_id=USER, point_id="mem_1730_1", vector=vector, payload={"value": "window seat"})
    await queue.wait_applied(receipt, timeout=30)
    [hit] = await queue.search(user_id=USER, vector=vector, min_score=0.9)
    assert (hit.point_id, hit.payload["value"]) == ("mem_1730_1", "window seat")
    points = [{"user_id": USER, "point_id": f"mem_1730_{n}", "vector": vector} for n in range(2, 600)]
    receipts = await queue.upsert_many(points)
    await queue.wait_applied(receipts[-1], timeout=30)
    assert len(await queue.get(user_id=USER, point_ids=["mem_1730_1", "mem_1730_599", "mem_1730_600"])) == 2
    await asyncio.gather(*(queue.delete(user_id=USER, point_id=f"mem_1730_{n}") for n in range(1, 100)))
    await queue.wait_applied(await queue.purge(user_id=USER), timeout=30)
    assert await queue.search(user_id=USER, vector=vector) == []
    assert await queue.info()


async def fail(queue: MemoryQueue, url: str, dimension: int) -> None:
    vector = [0.5] * dimension
    assert "point_id" in await raises(InvalidJob, queue.upsert(user_id=USER, point_id="mem_1_1", vector=vector))
    assert str(dimension) in await raises(InvalidJob, queue.search(user_id=USER, vector=[0.5]))
    await raises(NotApplied, queue.wait_applied(Receipt(0, "99999999999999-0"), timeout=0.2))
    async with MemoryQueue.connect(url, prefix="without-workers") as without_workers:
        assert "300 ms" in await raises(
            ReadFailed, without_workers.get(user_id=USER, point_ids=["mem_1730_1"], timeout=0.3)
        )
    async with MemoryQueue.connect("redis://127.0.0.1:1", timeout_s=0.2) as unreachable:
        await raises(QueueUnavailable, unreachable.purge(user_id=USER))


def block(url: str, prefix: str, dimension: int) -> None:
    """Push and search without asyncio, and push in a child process with the same client."""
    vector = [1.0] + [0.0] * (dimension - 1)
    with SyncMemoryQueue.connect(url, prefix=prefix) as queue:
        queue.wait_applied(queue.upsert(user_id=USER, point_id="mem_1730_1", vector=vector), timeout=30)
        child = os.fork()
        if not child:
            queue.wait_applied(queue.upsert(user_id=USER, point_id="mem_1730_2", vector=vector), timeout=30)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert {hit.point_id for hit in queue.search(user_id=USER, vector=vector)} == {"mem_1730_1", "mem_1730_2"}
        try:
            queue.upsert(user_id=USER, point_id="mem_1_1", vector=vector)
        except InvalidJob as error:
            assert error.field == "point_id", error
        queue.wait_applied(queue.purge(user_id=USER), timeout=30)


async def main(url: str, prefix: str = "mw", dimension: str = "1024") -> None:
    async with MemoryQueue.connect(url, prefix=prefix) as queue:
        await push_and_search(queue, int(dimension))
        await fail(queue, url, int(dimension))
    loaded = [name for name in OF_A_WORKER if name in sys.modules]
    assert not loaded, f"a producer loads {loaded}"
    import redis  # noqa: PLC0415  # for its version

    print(f"redis-py {redis.__version__}, hiredis {'installed' if find_spec('hiredis') else 'not installed'}: works")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    block(sys.argv[1], *(sys.argv[2:3] or ["mw"]), int(*(sys.argv[3:4] or ["1024"])))
