"""Read the dead letters of a queue with their jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from memory_worker.queue.dead_letters import DeadLetter, DeadLetters


async def all_dead_letters(dead_letters: DeadLetters) -> AsyncIterator[DeadLetter]:
    """Yield all dead letters, partition by partition, oldest first."""
    for partition in range(dead_letters.partitions):
        async for header in dead_letters.headers(partition):
            dead_letter = await dead_letters.get(header.receipt)
            assert dead_letter is not None
            yield dead_letter
