"""Read the dead letters of a queue with their jobs."""

from __future__ import annotations

from redis.asyncio import Redis

from memory_worker.queue.dead_letters import DeadLetter, DeadLetters
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions


async def all_dead_letters(redis: Redis, keys: Keys, partitions: int) -> list[DeadLetter]:
    """Return all dead letters, partition by partition, oldest first."""
    dead_letters = DeadLetters(redis, keys, partitions)
    found = []
    for partition in all_partitions(partitions):
        async for header in dead_letters.headers(partition):
            dead_letter = await dead_letters.get(header.receipt)
            assert dead_letter is not None
            found.append(dead_letter)
    return found
