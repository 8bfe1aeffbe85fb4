"""While reads are answered, few batches are on their way to Qdrant at once."""

from __future__ import annotations

import asyncio

import pytest

from memory_worker.ingest.request_gate import RequestGate


class Batches:
    """Batches that go through a gate and stay on their way until they are told to end."""

    def __init__(self, gate: RequestGate, count: int) -> None:
        self.inside = 0
        self._gate = gate
        self._ends = asyncio.Semaphore(0)
        self.tasks = [asyncio.create_task(self._send()) for _ in range(count)]

    async def _send(self) -> None:
        async with self._gate.pass_through():
            self.inside += 1
            await self._ends.acquire()
            self.inside -= 1

    async def end(self, count: int) -> None:
        for _ in range(count):
            self._ends.release()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("most", "reading", "expected"), [(1, True, 1), (2, True, 2), (1, False, 4), (0, True, 4)], ids=str
)
async def test_only_so_many_batches_are_on_their_way(most: int, reading: bool, expected: int) -> None:
    batches = Batches(RequestGate(most, lambda: reading), 4)
    await batches.settle()
    assert batches.inside == expected
    await batches.end(4)
    assert all(task.done() for task in batches.tasks)


async def test_all_batches_go_on_once_the_reads_have_ended() -> None:
    reading = [True]
    batches = Batches(RequestGate(1, lambda: reading[0]), 4)
    await batches.settle()
    reading[0] = False
    await batches.end(1)
    assert batches.inside == 3
    await batches.end(3)


async def test_a_batch_that_is_cancelled_lets_the_next_one_through() -> None:
    batches = Batches(RequestGate(1, lambda: True), 3)
    await batches.settle()
    batches.tasks[1].cancel()  # it waits
    batches.tasks[0].cancel()  # it is on its way
    await batches.settle()
    assert [task.done() for task in batches.tasks] == [True, True, False]
    await batches.end(1)
    assert batches.tasks[2].done()
