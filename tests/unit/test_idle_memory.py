"""An idle worker returns freed memory to the operating system."""

from __future__ import annotations

import asyncio
import ctypes
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from memory_worker.runtime.idle_memory import return_freed_memory, return_memory_when_idle

STATM = Path("/proc/self/statm")
MIB = 1 << 20


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim") or not STATM.exists(), reason="needs glibc and Linux")
def test_freed_memory_goes_back_to_the_operating_system() -> None:
    entries = [bytes([number % 256]) * 4_000 for number in range(20_000)]
    kept = entries[::100]  # the C library cannot shrink the heap below these
    full = resident_bytes()
    del entries
    return_freed_memory()
    assert full - resident_bytes() > 50 * MIB
    assert len(kept) == 200


async def test_memory_is_returned_only_while_the_worker_is_idle() -> None:
    looks = iter([False, True, False, True])
    returned_at: list[int] = []
    seen = 0

    def is_idle() -> bool:
        nonlocal seen
        seen += 1
        idle = next(looks, None)
        if idle is None:
            raise asyncio.CancelledError
        return idle

    with suppress(asyncio.CancelledError):
        await return_memory_when_idle(is_idle, lambda: returned_at.append(seen), every_s=0)
    assert returned_at == [2, 4]
