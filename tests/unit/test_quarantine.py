from __future__ import annotations

import asyncio

import pytest

from memory_worker.ingest.quarantine import QuarantineLock


class Holder:
    """Holds the lock in its own task until `release` is called."""

    def __init__(self, lock: QuarantineLock, *, exclusive: bool = False) -> None:
        self.holds = False
        self._released = asyncio.Event()
        self.task = asyncio.create_task(self._hold(lock, exclusive))

    async def release(self) -> None:
        self._released.set()
        await self.task

    async def _hold(self, lock: QuarantineLock, exclusive: bool) -> None:
        async with lock.hold(exclusive=exclusive):
            self.holds = True
            await self._released.wait()
            self.holds = False


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_drains_share_the_lock() -> None:
    lock = QuarantineLock()
    holders = [Holder(lock) for _ in range(3)]
    await settle()
    assert all(holder.holds for holder in holders)
    for holder in holders:
        await holder.release()


async def test_an_exclusive_holder_waits_for_earlier_holders_and_blocks_later_ones() -> None:
    lock = QuarantineLock()
    first = Holder(lock)
    await settle()
    exclusive = Holder(lock, exclusive=True)
    await settle()
    behind, also_exclusive = Holder(lock), Holder(lock, exclusive=True)
    await settle()
    assert (first.holds, exclusive.holds, behind.holds, also_exclusive.holds) == (True, False, False, False)
    await first.release()
    await settle()
    assert (exclusive.holds, behind.holds, also_exclusive.holds) == (True, False, False)
    await exclusive.release()
    await settle()
    assert behind.holds
    assert not also_exclusive.holds
    await behind.release()
    await settle()
    assert also_exclusive.holds
    await also_exclusive.release()


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_cancelled_wait_leaves_nothing_behind(exclusive: bool) -> None:
    lock = QuarantineLock()
    first = Holder(lock, exclusive=not exclusive)
    await settle()
    waiting = Holder(lock, exclusive=exclusive)
    await settle()
    waiting.task.cancel()
    await asyncio.gather(waiting.task, return_exceptions=True)
    await first.release()
    after = Holder(lock, exclusive=True)
    await settle()
    assert after.holds
    await after.release()
