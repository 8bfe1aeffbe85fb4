"""Dead letters are chosen, counted and processed in their original order, with little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.commands.dead_tables import header_document
from memory_worker.contract import Receipt
from memory_worker.queue.dead_choice import Choice, choose, matching
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.wire.keys import Keys

PARTITIONS = 2
BODY = b"x" * 10_000


@pytest.fixture
def dead_letters(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, PARTITIONS)


async def die(redis: Redis, keys: Keys, partition: int, entry_id: str, **fields: Any) -> Receipt:
    dead_letter = {"reason": "invalid", "detail": "", "op": "delete", "user_id": "7", "at": "0", "v": "1", "j": BODY}
    await redis.xadd(keys.dead(partition), {**dead_letter, **fields}, id=entry_id)
    return Receipt(partition, entry_id)


async def test_filters_choose_and_count_dead_letters(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    await die(redis, keys, 0, "1-0")
    await die(redis, keys, 0, "2-0", op="upsert")
    crashed = await die(redis, keys, 1, "1-0", reason="crashed", op="", user_id="")
    chosen = await choose(dead_letters, Choice(everything=True))
    assert chosen.summary() == "3 dead letters: 1 invalid delete, 1 invalid upsert, 1 crashed unknown"
    chosen = await choose(dead_letters, Choice(reason="crashed"))
    assert [receipt async for receipt in chosen.receipts(dead_letters)] == [crashed]
    assert (await choose(dead_letters, Choice(op="upsert", user_id="7"))).total == 1
    assert (await choose(dead_letters, Choice(user_id="8"))).total == 0


async def test_users_of_text_are_chosen_and_shown_as_text(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    await die(redis, keys, 0, "1-0", user_id="anna@example.org")
    await die(redis, keys, 0, "2-0")
    await die(redis, keys, 0, "3-0", user_id="")
    chosen = [header async for header in matching(dead_letters, Choice(user_id="anna@example.org"))]
    assert [header_document(header)["user_id"] for header in chosen] == ["anna@example.org"]
    everyone = [header async for header in matching(dead_letters, Choice())]
    assert [header_document(header)["user_id"] for header in everyone] == ["anna@example.org", 7, None]


async def test_a_receipt_without_a_dead_letter_is_missing(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    there, gone = await die(redis, keys, 1, "1-0"), Receipt(0, "9-9")
    chosen = await choose(dead_letters, Choice(receipts=(gone, there)))
    assert (chosen.total, chosen.missing) == (1, [gone])
    assert [receipt async for receipt in chosen.in_order(dead_letters)] == [there]


async def test_a_dead_letter_that_comes_after_the_count_is_not_chosen(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    first = await die(redis, keys, 0, "1-0")
    chosen = await choose(dead_letters, Choice(everything=True))
    await die(redis, keys, 0, "2-0")
    await die(redis, keys, 1, "2-0")
    assert [receipt async for receipt in chosen.in_order(dead_letters)] == [first]


async def test_dead_letters_are_in_the_order_of_their_first_push(
    redis: Redis, keys: Keys, dead_letters: DeadLetters
) -> None:
    """A job that was replayed and became a dead letter again has a new id but its old position."""
    second = await die(redis, keys, 0, "5-0")
    first = await die(redis, keys, 0, "9-0", r="4-7")
    third = await die(redis, keys, 0, "10-0", r="5-1")
    chosen = await choose(dead_letters, Choice(everything=True))
    assert [receipt async for receipt in chosen.in_order(dead_letters)] == [first, second, third]
    by_receipts = await choose(dead_letters, Choice(receipts=(third, second, first)))
    assert [receipt async for receipt in by_receipts.in_order(dead_letters)] == [first, second, third]


async def test_bodies_are_not_read(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(1, 1001):
            pipe.xadd(keys.dead(0), {"reason": "invalid", "op": "delete", "at": "0", "j": BODY}, id=f"{number}-0")
        await pipe.execute()
    tracemalloc.start()
    try:
        sizes = [head.size async for head in matching(dead_letters, Choice(everything=True))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [len(BODY)] * 1000
    assert peak < 1000 * len(BODY) / 5


async def test_many_dead_letters_are_dropped_at_once(redis: Redis, keys: Keys, dead_letters: DeadLetters) -> None:
    receipts = [await die(redis, keys, number % 2, f"{number}-0") for number in range(1, 8)]
    assert await dead_letters.drop([*receipts[:5], Receipt(0, "99-0")]) == 5
    assert [head.receipt async for head in matching(dead_letters, Choice())] == [
        receipts[5],
        receipts[6],
    ]
