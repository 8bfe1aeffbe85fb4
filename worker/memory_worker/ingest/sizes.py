"""The batch size of each partition: it shrinks after a failure, and grows again after successes."""

from __future__ import annotations


class BatchSizes:
    """The batch sizes of one process, in entries. The largest is ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shrunk: dict[int, int] = {}

    def of(self, partition: int) -> int:
        """Return the size of the partition's next batch."""
        return self._shrunk.get(partition, self._most)

    @property
    def any_shrunk(self) -> bool:
        """Whether the batches of any partition are smaller than usual."""
        return bool(self._shrunk)

    def shrink(self, partition: int, tried: int, *, by: int = 2) -> None:
        """Divide the size by ``by``, because a batch of ``tried`` entries failed."""
        self._shrunk[partition] = max(1, tried // by)

    def grow(self, partition: int) -> None:
        """Double a size that was shrunk, because a batch was applied."""
        if partition in self._shrunk:
            self._shrunk[partition] *= 2
            if self._shrunk[partition] >= self._most:
                del self._shrunk[partition]
