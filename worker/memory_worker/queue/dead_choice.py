"""The dead letters to act on: chosen by receipts or filters, counted, and then iterated again.

Dead letters that arrive between the count and the action are left out.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from memory_worker.contract import Receipt
from memory_worker.queue.dead_letters import DeadLetterHeader, DeadLetters
from memory_worker.queue.replay_guard import sort_key
from memory_worker.wire.overflow import all_partitions, streams_of

_ORDER = struct.Struct(">QQQQI")
"""Position, id and partition of a dead letter, to sort by: a quarter of what tuples take."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The dead letters that a command names: by their receipts, or by filters that all of them match."""

    receipts: tuple[Receipt, ...] = ()
    reason: str | None = None
    op: str | None = None
    user_id: str | None = None
    everything: bool = False
    died_by_s: float | None = None
    """Only those that had died by this time, in unix seconds."""

    @property
    def has_filters(self) -> bool:
        """Whether dead letters are chosen by filters. ``everything`` is the filter that all of them match."""
        return self.everything or any(one is not None for one in (self.reason, self.op, self.user_id))

    def matches(self, header: DeadLetterHeader) -> bool:
        """Return whether a dead letter matches all filters."""
        if self.died_by_s is not None and header.died_s > self.died_by_s:
            return False
        wanted = ((self.reason, header.reason), (self.op, header.op), (self.user_id, header.user_id))
        return all(want in (None, has) for want, has in wanted)


@dataclass(slots=True)
class Chosen:
    """The dead letters of a choice: their counts by reason and op, and the last id in each partition."""

    choice: Choice
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    last: dict[int, str] = field(default_factory=dict)
    missing: list[Receipt] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of dead letters that were found."""
        return self.counts.total()

    def summary(self) -> str:
        """Return the counts as a line: ``3 dead letters: 2 invalid upsert, 1 crashed delete``."""
        parts = (f"{count:,} {reason} {op or 'unknown'}" for (reason, op), count in self.counts.most_common())
        return f"{self.total:,} dead letter{'s' if self.total > 1 else ''}: {', '.join(parts)}"

    async def headers(self, dead_letters: DeadLetters, partition: int) -> AsyncIterator[DeadLetterHeader]:
        """Yield those of one stream by their ids. Dead letters that have arrived since the count are left out."""
        for receipt in self.choice.receipts:
            if receipt.partition == partition and (header := await dead_letters.header(receipt)):
                yield header
        if partition in self.last:
            async for header in dead_letters.headers(partition, last=self.last[partition]):
                if self.choice.matches(header):
                    yield header

    async def receipts(self, dead_letters: DeadLetters) -> AsyncIterator[Receipt]:
        """Yield the receipts, partition by partition."""
        for partition in all_partitions(dead_letters.partitions):
            async for header in self.headers(dead_letters, partition):
                yield header.receipt

    async def in_order(self, dead_letters: DeadLetters) -> AsyncIterator[Receipt]:
        """Yield the receipts, partition by partition, in the order in which their jobs were first pushed.

        A user may have dead letters in both streams of a partition.
        """
        for home in range(dead_letters.partitions):
            both = streams_of(home, dead_letters.partitions)
            order = [_packed(header) for number in both async for header in self.headers(dead_letters, number)]
            order.sort()
            for packed in order:
                _, _, milliseconds, number, partition = _ORDER.unpack(packed)
                yield Receipt(partition, f"{milliseconds}-{number}")


async def choose(dead_letters: DeadLetters, choice: Choice) -> Chosen:
    """Count the dead letters of a choice."""
    chosen = Chosen(choice)
    for receipt in choice.receipts:
        header = await dead_letters.header(receipt)
        if header is None:
            chosen.missing.append(receipt)
        else:
            chosen.counts[header.reason, header.op] += 1
    if choice.has_filters:
        async for header in matching(dead_letters, choice):
            chosen.counts[header.reason, header.op] += 1
            chosen.last[header.receipt.partition] = header.receipt.entry_id
    return chosen


async def matching(dead_letters: DeadLetters, choice: Choice) -> AsyncIterator[DeadLetterHeader]:
    """Yield the dead letters that match the filters, partition by partition, oldest first."""
    for partition in all_partitions(dead_letters.partitions):
        async for header in dead_letters.headers(partition):
            if choice.matches(header):
                yield header


def _packed(header: DeadLetterHeader) -> bytes:
    order = (*sort_key(header.position), *sort_key(header.receipt.entry_id))
    return _ORDER.pack(*order, header.receipt.partition)
