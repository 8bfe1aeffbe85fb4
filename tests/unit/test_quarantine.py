from __future__ import annotations

import asyncio

import pytest

from memory_worker.ingest.quarantine import Quarantine


class Visitor:
    """Goes through the gate in a task of its own, and stays until it is told to leave."""

    def __init__(self, quarantine: Quarantine, *, alone: bool = False) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(quarantine, alone))

    async def leave(self) -> None:
        self._leave.set()
        await self.task

    async def _visit(self, quarantine: Quarantine, alone: bool) -> None:
        async with quarantine.enter(alone=alone):
            self.inside = True
            await self._leave.wait()
            self.inside = False


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_are_inside_together() -> None:
    quarantine = Quarantine()
    visitors = [Visitor(quarantine) for _ in range(3)]
    await settle()
    assert all(visitor.inside for visitor in visitors)
    for visitor in visitors:
        await visitor.leave()


async def test_one_alone_waits_for_those_inside_and_keeps_out_those_behind() -> None:
    quarantine = Quarantine()
    first = Visitor(quarantine)
    await settle()
    alone = Visitor(quarantine, alone=True)
    await settle()
    behind, also_alone = Visitor(quarantine), Visitor(quarantine, alone=True)
    await settle()
    assert (first.inside, alone.inside, behind.inside, also_alone.inside) == (True, False, False, False)
    await first.leave()
    await settle()
    assert (alone.inside, behind.inside, also_alone.inside) == (True, False, False)
    await alone.leave()
    await settle()
    assert behind.inside
    assert not also_alone.inside
    await behind.leave()
    await settle()
    assert also_alone.inside
    await also_alone.leave()


@pytest.mark.parametrize("alone", [False, True])
async def test_who_gives_up_waiting_is_forgotten(alone: bool) -> None:
    quarantine = Quarantine()
    first = Visitor(quarantine, alone=not alone)
    await settle()
    waiting = Visitor(quarantine, alone=alone)
    await settle()
    waiting.task.cancel()
    await asyncio.gather(waiting.task, return_exceptions=True)
    await first.leave()
    after = Visitor(quarantine, alone=True)
    await settle()
    assert after.inside
    await after.leave()
