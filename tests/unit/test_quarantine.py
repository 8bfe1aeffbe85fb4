"""The quarantine: many drains run together, but a drain in quarantine runs alone."""

from __future__ import annotations

import asyncio

import pytest

from memory_worker.ingest.quarantine import QuarantineLock
from tests.tools import let_others_run


class Drain:
    """Enters the quarantine in its own task, and stays until `leave`."""

    def __init__(self, lock: QuarantineLock, *, exclusive: bool = False) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(lock, exclusive))

    async def leave(self) -> None:
        self._leave.set()
        await self.task
        await let_others_run()

    async def _run(self, lock: QuarantineLock, exclusive: bool) -> None:
        async with lock.hold(exclusive=exclusive):
            self.inside = True
            await self._leave.wait()
            self.inside = False


async def started(lock: QuarantineLock, *, exclusive: bool = False) -> Drain:
    drain = Drain(lock, exclusive=exclusive)
    await let_others_run()
    return drain


async def test_many_drains_run_together() -> None:
    lock = QuarantineLock()
    drains = [await started(lock) for _ in range(3)]
    assert all(drain.inside for drain in drains)
    for drain in drains:
        await drain.leave()


async def test_an_exclusive_drain_waits_for_running_ones_and_later_ones_wait_for_it() -> None:
    lock = QuarantineLock()
    drains = first, exclusive, later, later_exclusive = [
        await started(lock, exclusive=number in (1, 3)) for number in range(4)
    ]

    def inside() -> list[bool]:
        return [drain.inside for drain in drains]

    assert inside() == [True, False, False, False]
    await first.leave()
    assert inside() == [False, True, False, False]
    await exclusive.leave()
    assert inside() == [False, False, True, False]
    await later.leave()
    assert inside() == [False, False, False, True]
    await later_exclusive.leave()


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_drain_that_is_cancelled_while_it_waits_delays_no_other(exclusive: bool) -> None:
    lock = QuarantineLock()
    first = await started(lock, exclusive=not exclusive)
    waiting = await started(lock, exclusive=exclusive)
    waiting.task.cancel()
    await asyncio.gather(waiting.task, return_exceptions=True)
    await first.leave()
    after = await started(lock, exclusive=True)
    assert after.inside
    await after.leave()
