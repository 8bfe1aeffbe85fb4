"""The budget: never more than all of it is held, and whoever asked first is first."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.budget import ByteBudget


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_fits_does_not_wait() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as one, budget.reservation() as other:
        await one.replace(4)
        await other.replace(6)


async def test_what_does_not_fit_waits_its_turn() -> None:
    budget, order = ByteBudget(10), []

    async def work(size: int) -> None:
        with budget.reservation() as reservation:
            await reservation.replace(size)
            order.append(size)

    with budget.reservation() as first:
        await first.replace(8)
        tasks = [asyncio.create_task(work(size)) for size in (9, 1, 2)]
        await turns()
        assert order == []  # 1 and 2 would fit, but 9 came before them
    await asyncio.gather(*tasks)
    assert order == [9, 1, 2]


async def test_more_than_there_is_is_all_of_it() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as large:
        await large.replace(50)
        with budget.reservation() as small:
            waiting = asyncio.create_task(small.replace(1))
            await turns()
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
    with budget.reservation() as after:
        await after.replace(10)


async def test_taking_again_does_not_wait_for_oneself() -> None:
    with ByteBudget(10).reservation() as reservation:
        await reservation.replace(8)
        await reservation.replace(9)


async def test_what_is_known_to_be_smaller_makes_room() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as large, budget.reservation() as other:
        await large.replace(10)
        waiting = asyncio.create_task(other.replace(6))
        await turns()
        large.shrink(50)
        await turns()
        assert not waiting.done()
        large.shrink(4)
        await asyncio.wait_for(waiting, 5)
    with budget.reservation() as after:
        await after.replace(10)


async def test_whoever_gives_up_keeps_nobody_waiting() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as first, budget.reservation() as second, budget.reservation() as third:
        await first.replace(5)
        giving_up = asyncio.create_task(second.replace(10))
        waiting = asyncio.create_task(third.replace(5))
        await turns()
        giving_up.cancel()
        await asyncio.wait_for(waiting, 5)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_whatever_is_cancelled_when_nothing_is_lost(steps: list[tuple[int, int, int]]) -> None:
    async def run() -> None:
        budget, held = ByteBudget(10), 0

        async def work(size: int, busy: int) -> None:
            nonlocal held
            with budget.reservation() as reservation:
                await reservation.replace(size)
                held += min(size, 10)
                try:
                    assert held <= 10
                    await turns(busy)
                finally:
                    held -= min(size, 10)

        tasks = []
        for size, busy, then in steps:
            tasks.append(asyncio.create_task(work(size, busy)))
            await turns(then)
            if then % 2:
                tasks[then * size % len(tasks)].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(result, AssertionError) for result in results)
        with budget.reservation() as everything:
            await asyncio.wait_for(everything.replace(10), 5)

    asyncio.run(run())
