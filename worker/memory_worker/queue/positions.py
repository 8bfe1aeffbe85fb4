"""How far the entries of streams reach. So a command can tell what waits now from what is pushed later."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.queue.replay_guard import sort_key
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions


class Position(msgspec.Struct, frozen=True):
    """The first and the last entry of a stream, which are empty if no entry waits.

    ``waiting`` is the number of entries. ``added`` counts all that were ever added.
    """

    first: str
    last: str
    waiting: int
    added: int

    def left_of(self, earlier: Position) -> int:
        """Return how many of the entries at an ``earlier`` time still wait. Entries leave a stream at its head."""
        if not self.first or not earlier.last or sort_key(self.first) > sort_key(earlier.last):
            return 0
        return max(1, min(self.waiting, earlier.added - self.added + self.waiting))


async def read_positions(redis: Redis, keys: Keys, partitions: int) -> list[Position]:
    """Return the position of each stream, overflow streams included. Raises `QueueUnavailable`."""
    names = [keys.stream(number) for number in all_partitions(partitions)]
    with queue_request("positions"):
        found = await scripts.run(redis, "positions", names, [])
    return [Position(first.decode(), last.decode(), waiting, added) for first, last, waiting, added in found]
