"""What all parts of the client share: the producer."""

from __future__ import annotations

from memory_worker.client.producer import Producer


class Opened:
    """A part of `memory_worker.client.memory_queue.MemoryQueue`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
