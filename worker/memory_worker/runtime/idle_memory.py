"""Returns freed memory to the operating system while a worker is idle.

The C library keeps the memory of finished batches: about 30 MiB after a burst of writes with the default settings, and
80 MiB with ``WORKER_CONCURRENCY=16``. It takes 3 to 5 ms to return that, so a busy worker keeps it for its next batch.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import NoReturn

_EVERY_S = 5.0


async def return_memory_when_idle(
    is_idle: Callable[[], bool], return_memory: Callable[[], object], *, every_s: float = _EVERY_S
) -> NoReturn:
    """Look every ``every_s`` seconds until cancelled, and call ``return_memory`` if the worker is idle."""
    while True:
        await asyncio.sleep(every_s)
        if is_idle():
            return_memory()


def return_freed_memory() -> None:
    """Return all memory that is free to the operating system. Do nothing if the C library is not glibc."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))  # keep no bytes
