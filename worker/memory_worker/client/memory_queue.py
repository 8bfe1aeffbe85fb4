"""`MemoryQueue`: push write jobs, wait for them if needed, and search."""

from __future__ import annotations

from memory_worker.client.condition import Condition
from memory_worker.client.connected import Connected
from memory_worker.client.reading import Reading
from memory_worker.client.receipts import Receipts
from memory_worker.client.writing import Writing


class Operations(Writing, Reading, Receipts, Condition):
    """All methods of a queue, for a producer."""


class MemoryQueue(Connected, Operations):
    """The queue for producers. It is safe for concurrent use within an event loop.

    Connections belong to the event loop that first used them. In another loop (after the first has ended) new ones are
    opened. Close the queue with ``async with`` or `close`.

    Every method raises `QueueUnavailable` if Redis cannot be reached or refuses a request. If Redis hangs, it does so
    soon after the timeout. A push that raised `QueueUnavailable` has either been stored once or will never be stored. A
    push that is cancelled may still be stored later.
    """
