"""The dead letters that a command is about: chosen by receipts or filters, counted, and then iterated again.

Dead letters that arrive between the count and the action are left out.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.queue.dead_heads import DeadHead, dead_head, dead_heads
from memory_worker.wire.keys import Keys

_ORDER = struct.Struct(">QQQQ")
"""Position and id of a dead letter, to sort by: a quarter of what tuples take."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Receipts, or what all chosen letters have in common."""

    receipts: tuple[Receipt, ...] = ()
    reason: str | None = None
    op: str | None = None
    user_id: int | None = None
    everything: bool = False

    @property
    def filters(self) -> bool:
        """Whether letters are chosen by what they have in common."""
        return self.everything or any(one is not None for one in (self.reason, self.op, self.user_id))

    def holds(self, head: DeadHead) -> bool:
        """Say whether a letter is one of those that the filters leave."""
        user = None if self.user_id is None else str(self.user_id)
        wanted = ((self.reason, head.reason), (self.op, head.op), (user, head.user_id))
        return all(want in (None, has) for want, has in wanted)


@dataclass(slots=True)
class Chosen:
    """The dead letters of a choice: their counts by reason and op, and the last id in each partition."""

    choice: Choice
    partitions: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    last: dict[int, str] = field(default_factory=dict)
    missing: list[Receipt] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many letters were found."""
        return self.counts.total()

    def summary(self) -> str:
        """Return the counts as a line: ``3 dead letters: 2 invalid upsert, 1 crashed delete``."""
        parts = (f"{count:,} {reason} {op or 'unknown'}" for (reason, op), count in self.counts.most_common())
        return f"{self.total:,} dead letter{'s' if self.total > 1 else ''}: {', '.join(parts)}"

    async def heads(self, redis: Redis, keys: Keys, partition: int) -> AsyncIterator[DeadHead]:
        """Yield those of a partition, in the order of their ids; letters that have come since are left out."""
        for receipt in self.choice.receipts:
            if receipt.partition == partition and (head := await dead_head(redis, keys, receipt)):
                yield head
        if partition in self.last:
            async for head in dead_heads(redis, keys, partition, last=self.last[partition]):
                if self.choice.holds(head):
                    yield head

    async def receipts(self, redis: Redis, keys: Keys) -> AsyncIterator[Receipt]:
        """Yield the receipts, partition by partition."""
        for partition in range(self.partitions):
            async for head in self.heads(redis, keys, partition):
                yield head.receipt

    async def in_order(self, redis: Redis, keys: Keys) -> AsyncIterator[Receipt]:
        """Yield the receipts, in each partition in the order in which their jobs were pushed at first."""
        for partition in range(self.partitions):
            order = [_packed(head) async for head in self.heads(redis, keys, partition)]
            order.sort()
            for packed in order:
                _, _, milliseconds, number = _ORDER.unpack(packed)
                yield Receipt(partition, f"{milliseconds}-{number}")


async def choose(redis: Redis, keys: Keys, partitions: int, choice: Choice) -> Chosen:
    """Count the dead letters of a choice."""
    chosen = Chosen(choice, partitions)
    for receipt in choice.receipts:
        head = await dead_head(redis, keys, receipt)
        if head is None:
            chosen.missing.append(receipt)
        else:
            chosen.counts[head.reason, head.op] += 1
    if choice.filters:
        async for head in matching(redis, keys, partitions, choice):
            chosen.counts[head.reason, head.op] += 1
            chosen.last[head.receipt.partition] = head.receipt.entry_id
    return chosen


async def matching(redis: Redis, keys: Keys, partitions: int, choice: Choice) -> AsyncIterator[DeadHead]:
    """Yield the dead letters that the filters leave, partition by partition, oldest first."""
    for partition in range(partitions):
        async for head in dead_heads(redis, keys, partition):
            if choice.holds(head):
                yield head


def _packed(head: DeadHead) -> bytes:
    return _ORDER.pack(*_numbers(head.position), *_numbers(head.receipt.entry_id))


def _numbers(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
