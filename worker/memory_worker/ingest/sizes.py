"""How many entries of a partition make a batch: fewer after a failure of a larger one, and then more again."""

from __future__ import annotations


class BatchSizes:
    """The sizes of batches of one process, up to ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shrunk: dict[int, int] = {}

    def of(self, partition: int) -> int:
        """Return how many entries the next batch may have."""
        return self._shrunk.get(partition, self._most)

    def shrink(self, partition: int, tried: int, *, by: int = 2) -> None:
        """A batch of so many entries failed, and a smaller one may not."""
        self._shrunk[partition] = max(1, tried // by)

    def grow(self, partition: int) -> None:
        """A batch was applied."""
        if partition in self._shrunk:
            self._shrunk[partition] *= 2
            if self._shrunk[partition] >= self._most:
                del self._shrunk[partition]
