"""Joining: what comes at once is worked on at once, and nobody gets what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from memory_worker.coalesce import Coalescer


class Work:
    """Doubles numbers, notes what came together, and fails for what it is told to."""

    def __init__(self, *, bad: Sequence[int] = (), broken: bool = False) -> None:
        self.seen: list[list[int]] = []
        self._bad = bad
        self._broken = broken

    async def __call__(self, items: list[int]) -> list[int | Exception]:
        self.seen.append(items)
        await asyncio.sleep(0)
        if self._broken:
            raise ConnectionError("all of it")
        return [ValueError(item) if item in self._bad else 2 * item for item in items]


async def test_what_comes_at_once_is_joined() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    assert await asyncio.gather(*map(coalescer.do, range(5))) == [0, 2, 4, 6, 8]
    assert work.seen == [[0, 1, 2, 3, 4]]


async def test_alone_it_waits_for_nobody() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    assert await coalescer.do(1) == 2
    assert await coalescer.do(2) == 4
    assert work.seen == [[1], [2]]


async def test_no_more_than_the_most_at_once() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=2)
    assert await asyncio.gather(*map(coalescer.do, range(5))) == [0, 2, 4, 6, 8]
    assert work.seen == [[0, 1], [2, 3], [4]]


async def test_only_those_of_one_key_are_joined() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10, key=lambda item: item % 2)
    assert await asyncio.gather(*map(coalescer.do, range(4))) == [0, 2, 4, 6]
    assert work.seen == [[0, 2], [1, 3]]


async def test_an_error_of_one_is_not_that_of_the_others() -> None:
    coalescer = Coalescer[int, int](Work(bad=[1]), max_items=10)
    first, second, third = await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True)
    assert (first, third) == (0, 4)
    assert isinstance(second, ValueError)


async def test_what_the_work_raises_is_raised_for_all() -> None:
    coalescer = Coalescer[int, int](Work(broken=True), max_items=10)
    for found in await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True):
        assert isinstance(found, ConnectionError)


async def test_who_gave_up_is_not_missed() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    gone = asyncio.create_task(coalescer.do(1))
    staying = asyncio.create_task(coalescer.do(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert work.seen == [[1, 2]]


async def test_too_few_results_are_an_error_for_all() -> None:
    async def forgetful(items: list[int]) -> list[int | Exception]:
        return [2 * item for item in items[1:]]

    coalescer = Coalescer[int, int](forgetful, max_items=10)
    for found in await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True):
        assert isinstance(found, RuntimeError)


async def test_work_that_nobody_waits_for_is_cancelled_and_no_sooner() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(items: list[int]) -> list[int]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return items

    coalescer = Coalescer[int, int](work, max_items=10)
    first, second = asyncio.create_task(coalescer.do(1)), asyncio.create_task(coalescer.do(2))
    await begun.wait()
    first.cancel()
    await asyncio.wait([first])
    await asyncio.sleep(0)
    assert not ended.is_set()
    second.cancel()
    await asyncio.wait_for(ended.wait(), 5)
