"""The quarantine: many drains run together, but a drain in quarantine runs alone."""

from __future__ import annotations

import asyncio

import pytest

from memory_worker.ingest.quarantine import Quarantine
from tests.tools import let_others_run


class Drain:
    """Enters the quarantine in its own task, and stays until `leave`."""

    def __init__(self, quarantine: Quarantine, *, alone: bool = False) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(quarantine, alone))

    async def release(self) -> None:
        self._released.set()
        await self.task
        await let_others_run()

    async def _run(self, quarantine: Quarantine, alone: bool) -> None:
        async with quarantine.enter(alone=alone):
            self.inside = True
            await self._leave.wait()
            self.inside = False


async def started(quarantine: Quarantine, *, alone: bool = False) -> Drain:
    drain = Drain(quarantine, alone=alone)
    await let_others_run()
    return drain


async def test_many_drains_run_together() -> None:
    quarantine = Quarantine()
    drains = [await started(quarantine) for _ in range(3)]
    assert all(drain.inside for drain in drains)
    for drain in drains:
        await drain.leave()


async def test_a_drain_alone_waits_for_running_ones_and_later_ones_wait_for_it() -> None:
    quarantine = Quarantine()
    drains = first, alone, later, later_alone = [
        await started(quarantine, alone=number in (1, 3)) for number in range(4)
    ]

    def inside() -> list[bool]:
        return [drain.inside for drain in drains]

    assert inside() == [True, False, False, False]
    await first.leave()
    assert inside() == [False, True, False, False]
    await alone.leave()
    assert inside() == [False, False, True, False]
    await later.leave()
    assert inside() == [False, False, False, True]
    await later_alone.leave()


@pytest.mark.parametrize("alone", [False, True])
async def test_a_drain_that_is_cancelled_while_it_waits_delays_no_other(alone: bool) -> None:
    quarantine = Quarantine()
    first = await started(quarantine, alone=not alone)
    waiting = await started(quarantine, alone=alone)
    waiting.task.cancel()
    await asyncio.gather(waiting.task, return_exceptions=True)
    await first.leave()
    after = await started(quarantine, alone=True)
    assert after.inside
    await after.leave()
