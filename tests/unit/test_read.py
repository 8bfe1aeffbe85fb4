"""One read: the parts that run at the same time, its room for large answers, and Qdrant's time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from memory_worker.budget import ByteBudget
from memory_worker.store.reader import Read


async def part(read: Read, *, engine_s: float = 0.0, room: int = 0) -> float:
    if room:
        await read.make_room(room)
    read.engine_s += engine_s
    return engine_s


async def test_the_slowest_part_counts_as_the_time_of_the_engine() -> None:
    read = Read(5)
    await part(read, engine_s=1)
    assert await read.together(partial(part_of, seconds) for seconds in (0.25, 2, 0.5)) == [0.25, 2, 0.5]
    assert await read.together([]) == []
    assert read.engine_ms == 3000


async def part_of(seconds: float, read: Read) -> float:
    return await part(read, engine_s=seconds)


async def test_parts_have_the_deadline_of_the_read() -> None:
    read = Read(5)

    async def left(part: Read) -> float:
        return part.deadline

    assert await read.together([left, left]) == [read.deadline] * 2
    read.hurry(0.5)
    assert 2 < read.left_s <= 2.5
    assert Read(-1).left_s > 0


async def test_if_a_part_fails_the_others_are_cancelled() -> None:
    cancelled = []

    async def hang(_: Read) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fail(_: Read) -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Read(5).together([hang, fail, hang])
    await asyncio.sleep(0)
    assert cancelled == [True, True]


async def test_the_room_of_all_parts_is_released_at_the_end() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as reservation:
        read = Read(5, reservation)
        await read.together([partial(part, room=3), partial(part, room=4)])
        with budget.reservation() as other:
            await other.replace(3)
            waiting = asyncio.create_task(other.replace(4))
            await asyncio.sleep(0)
            assert not waiting.done()  # 7 bytes are taken
            waiting.cancel()
            await asyncio.wait([waiting])
        await part(read, room=100)  # more than there is counts as everything
    with budget.reservation() as everything:
        await asyncio.wait_for(everything.replace(10), 5)


async def test_parts_that_are_cancelled_while_they_wait_for_room_release_it() -> None:
    budget = ByteBudget(10)
    with budget.reservation() as first:
        await first.replace(8)
        with budget.reservation() as reservation:
            read = Read(5, reservation)
            parts = [partial(part, room=3), partial(part, room=4)]
            waiting = asyncio.create_task(read.together(parts))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        with budget.reservation() as small:
            await asyncio.wait_for(small.replace(2), 5)
    with budget.reservation() as everything:
        await asyncio.wait_for(everything.replace(10), 5)


async def test_two_reads_with_several_large_answers_do_not_wait_for_each_other_forever() -> None:
    budget = ByteBudget(10)

    async def large() -> None:
        with budget.reservation() as reservation:
            await Read(5, reservation).together([partial(part, room=4)] * 3)

    await asyncio.wait_for(asyncio.gather(*(large() for _ in range(5))), 5)
