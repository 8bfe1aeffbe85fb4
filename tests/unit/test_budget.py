"""The byte budget: no more than the budget is held at any time, and requests are served in order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.budget import ByteBudget
from tests.tools import let_others_run


async def test_a_request_that_fits_does_not_wait() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as one, budget.reservation() as other:
        await one.replace(4)
        await other.replace(6)


async def test_a_request_that_does_not_fit_waits_and_later_ones_wait_behind_it() -> None:
    budget, order = ByteBudget(10), []

    async def work(size: int) -> None:
        with budget.reservation() as reservation:
            await reservation.replace(size)
            order.append(size)

    with budget.reservation() as first:
        await first.replace(8)
        tasks = [asyncio.create_task(work(size)) for size in (9, 1, 2)]
        await let_others_run()
        assert order == []  # 1 and 2 would fit, but 9 came before them
    await asyncio.gather(*tasks)
    assert order == [9, 1, 2]


async def test_a_request_above_the_budget_takes_all_of_it() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as large:
        await large.replace(50)
        with budget.reservation() as small:
            waiting = asyncio.create_task(small.replace(1))
            await let_others_run()
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
    with budget.reservation() as after:
        await after.replace(10)


async def test_a_holder_that_takes_more_does_not_wait_for_itself() -> None:
    with ByteBudget(10).reservation() as reservation:
        await reservation.replace(8)
        await reservation.replace(9)


async def test_a_holding_that_shrinks_makes_room() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as large, budget.reservation() as other:
        await large.replace(10)
        waiting = asyncio.create_task(other.replace(6))
        await let_others_run()
        large.shrink(50)
        await let_others_run()
        assert not waiting.done()
        large.shrink(4)
        await asyncio.wait_for(waiting, 5)
    with budget.reservation() as after:
        await after.replace(10)


async def test_a_cancelled_request_does_not_delay_the_others() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as first, budget.reservation() as second, budget.reservation() as third:
        await first.replace(5)
        giving_up = asyncio.create_task(second.replace(10))
        waiting = asyncio.create_task(third.replace(5))
        await let_others_run()
        giving_up.cancel()
        await asyncio.wait_for(waiting, 5)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_cancellations_at_any_moment_lose_no_bytes(steps: list[tuple[int, int, int]]) -> None:
    async def run() -> None:
        budget, held = ByteBudget(10), 0

        async def work(size: int, busy: int) -> None:
            nonlocal held
            with budget.reservation() as reservation:
                await reservation.replace(size)
                held += min(size, 10)
                try:
                    assert held <= 10
                    await let_others_run(busy)
                finally:
                    held -= min(size, 10)

        tasks = []
        for size, busy, then in steps:
            tasks.append(asyncio.create_task(work(size, busy)))
            await let_others_run(then)
            if then % 2:
                tasks[then * size % len(tasks)].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(result, AssertionError) for result in results)
        with budget.reservation() as everything:
            await asyncio.wait_for(everything.replace(10), 5)

    asyncio.run(run())
