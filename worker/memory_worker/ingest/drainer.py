"""The drainer: drains partitions of one queue into one store, one by one or in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arq.connections import ArqRedis

from memory_worker.ingest.context import DrainContext, DrainResult
from memory_worker.ingest.drain import PartitionDrain
from memory_worker.ingest.group import GroupDrain
from memory_worker.ingest.options import DrainOptions
from memory_worker.metrics import DRAINS
from memory_worker.queue.clock import RedisClock
from memory_worker.queue.keys import Keys
from memory_worker.store.store import VectorStore


class Drainer:
    """Drains partitions of one queue into one store; one instance serves a whole process."""

    def __init__(
        self,
        redis: ArqRedis,
        keys: Keys,
        store: VectorStore,
        options: DrainOptions,
        *,
        clock: RedisClock | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        context = DrainContext(redis, keys, store, options, clock=clock or RedisClock(), stopping=stopping)
        self._outages = context.outages
        self._single = PartitionDrain(context)
        self._group = GroupDrain(context, self._single)

    def trouble(self, *, within_s: float) -> str | None:
        """Return what Qdrant last failed a drain with, if that is no longer ago and nothing has been applied since."""
        return self._outages.trouble(within_s=within_s)

    async def drain(self, partition: int) -> DrainResult:
        """Apply what waits in ``partition`` for a slice of time, if no other drain has it and Qdrant is not away."""
        return (await self.drain_group([partition]))[partition]

    async def drain_group(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        """Apply what waits in ``partitions``: of one for a slice of time, of several a batch together.

        Raises `QueueError`, `PartitionMismatch`.
        """
        results = await self._drain(partitions)
        for result in results.values():
            DRAINS.labels(result.ending).inc()
        self._outages.tell()
        return results

    async def _drain(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        wait_s = self._outages.wait_s()
        if wait_s > 0:
            return dict.fromkeys(partitions, DrainResult(ending="outage", ring_after_s=wait_s))
        if len(partitions) == 1:
            return {partitions[0]: await self._single.drain(partitions[0])}
        return await self._group.drain(partitions)
