"""A `memory-worker` that dies of one job while slow requests with other jobs are in flight."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from memory_worker.__main__ import main as run
from memory_worker.store.store import VectorStore

DEADLY = "deadly nightshade"
_DIES_AFTER_S = 0.05
_OTHERS_TAKE_S = 0.1
"""Longer than that, so that they are still in flight."""


def main() -> None:
    send = VectorStore.send_request

    async def send_or_die(self: VectorStore, ref: Any, request: Any, *, deadline: float) -> None:
        if DEADLY.encode() in request.body:
            await asyncio.sleep(_DIES_AFTER_S)
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(_OTHERS_TAKE_S)
        await send(self, ref, request, deadline=deadline)

    VectorStore.send_request = send_or_die  # type: ignore[method-assign]
    run()


if __name__ == "__main__":
    main()
