"""The numbers of partitions. Each partition has two streams: its home stream, and its overflow stream.

The overflow stream has the jobs of users who push much at once, so that the other users of the partition need not wait
behind them. If the queue has P partitions, the overflow stream of partition p is that of the partition number P + p.
Leases, drain jobs, dead letters and receipts have this number, too.
"""

from __future__ import annotations


def all_partitions(partitions: int) -> range:
    """Return the numbers of all partitions, including those of overflow streams."""
    return range(2 * partitions)


def home_of(number: int, partitions: int) -> int:
    """Return the partition to whose users the stream ``number`` belongs. It is the number of the home stream."""
    return number % partitions


def streams_of(number: int, partitions: int) -> tuple[int, int]:
    """Return the numbers of both streams of a partition, of which ``number`` is one: home, then overflow."""
    home = home_of(number, partitions)
    return home, partitions + home


def is_overflow(number: int, partitions: int) -> bool:
    """Return whether ``number`` is that of an overflow stream."""
    return number >= partitions
