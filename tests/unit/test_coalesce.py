"""The coalescer: requests that arrive at once are sent as one, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from memory_worker.coalesce import Coalescer


class Work:
    """Doubles numbers and records which came together; fails for ``bad`` numbers, or for all if ``broken``."""

    def __init__(self, *, bad: Sequence[int] = (), broken: bool = False) -> None:
        self.seen: list[list[int]] = []
        self._bad = bad
        self._broken = broken

    async def __call__(self, items: list[int]) -> list[int | Exception]:
        self.seen.append(items)
        await asyncio.sleep(0)
        if self._broken:
            raise ConnectionError
        return [ValueError(item) if item in self._bad else 2 * item for item in items]


async def test_requests_at_once_are_coalesced() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    assert await asyncio.gather(*map(coalescer.do, range(5))) == [0, 2, 4, 6, 8]
    assert work.seen == [[0, 1, 2, 3, 4]]


async def test_a_single_request_does_not_wait() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    assert await coalescer.do(1) == 2
    assert await coalescer.do(2) == 4
    assert work.seen == [[1], [2]]


async def test_a_batch_has_a_limit() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=2)
    assert await asyncio.gather(*map(coalescer.do, range(5))) == [0, 2, 4, 6, 8]
    assert work.seen == [[0, 1], [2, 3], [4]]


async def test_only_requests_with_the_same_key_are_coalesced() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10, key=lambda item: item % 2)
    assert await asyncio.gather(*map(coalescer.do, range(4))) == [0, 2, 4, 6]
    assert work.seen == [[0, 2], [1, 3]]


async def test_an_error_of_one_request_does_not_fail_the_others() -> None:
    coalescer = Coalescer[int, int](Work(bad=[1]), max_items=10)
    first, second, third = await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True)
    assert (first, third) == (0, 4)
    assert isinstance(second, ValueError)


async def test_an_exception_of_the_work_is_raised_for_all() -> None:
    coalescer = Coalescer[int, int](Work(broken=True), max_items=10)
    for found in await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True):
        assert isinstance(found, ConnectionError)


async def test_a_cancelled_request_does_not_fail_the_others() -> None:
    work = Work()
    coalescer = Coalescer[int, int](work, max_items=10)
    gone = asyncio.create_task(coalescer.do(1))
    staying = asyncio.create_task(coalescer.do(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert work.seen == [[2]]


async def test_too_few_results_are_an_error_for_all() -> None:
    async def forgetful(items: list[int]) -> list[int | Exception]:
        return [2 * item for item in items[1:]]

    coalescer = Coalescer[int, int](forgetful, max_items=10)
    for found in await asyncio.gather(*map(coalescer.do, range(3)), return_exceptions=True):
        assert isinstance(found, RuntimeError)


async def test_the_work_is_cancelled_once_all_requests_are() -> None:
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
