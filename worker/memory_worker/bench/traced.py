"""A worker that writes to standard error when each of its requests to Redis and Qdrant began and ended.

    python -m memory_worker.bench.traced run --role ingest

Nothing in the worker is changed for it: scripts and calls are wrapped when this process starts.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from memory_worker.store.rpc import QdrantRpc
from memory_worker.wire.lua import Scripts

MARK = "traced"


def _traced(
    server: str, request: Callable[..., Awaitable[Any]], *, waits: bool = False
) -> Callable[..., Awaitable[Any]]:
    """Return a method that also writes the name of its request, which is the second argument or its ``name``.

    If the request ``waits`` for work, only its end is known to belong to a write.
    """

    async def run(self: object, first: object, named: object, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return await request(self, first, named, *arguments, **options)
        finally:
            name = f"{server}:{getattr(named, 'name', named)}"
            ended = time.perf_counter()
            sys.stderr.write(f"{MARK} {name} {ended if waits else began!r} {ended!r}\n")

    return run


if __name__ == "__main__":
    Scripts.run = _traced("Redis", Scripts.run)  # type: ignore[assignment, method-assign]
    Scripts.run_behind = _traced("Redis", Scripts.run_behind, waits=True)  # type: ignore[assignment, method-assign]
    QdrantRpc.call = _traced("Qdrant", QdrantRpc.call)  # type: ignore[assignment, method-assign]
    runpy.run_module("memory_worker", run_name="__main__", alter_sys=True)
