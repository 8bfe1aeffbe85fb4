"""The drainer: drains partitions of one queue into one store, one by one or in groups."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from memory_worker.ingest.context import DrainContext, DrainResult, all_of
from memory_worker.ingest.drain import PartitionDrain
from memory_worker.ingest.group import GroupDrain
from memory_worker.ingest.options import DrainOptions
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.metrics import DRAINS
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys


class Drainer:
    """Drains partitions of one queue into one store; one instance serves a whole process, whose id is ``process``."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        options: DrainOptions,
        *,
        process: str | None = None,
        clock: RedisClock | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        context = DrainContext(
            redis,
            keys,
            store,
            options,
            process=process or secrets.token_hex(8),
            clock=clock or RedisClock(),
            stopping=stopping,
        )
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
        self._outages.report()
        return results

    async def _drain(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        wait_s = self._outages.wait_s()
        if wait_s > 0:
            return dict.fromkeys(partitions, DrainResult(ending="outage", wake_after_s=wait_s))
        if not self._outages.is_open:
            return await self._drain_now(partitions)
        return await self._ask(sorted(partitions, key=self._outages.failures))

    async def _ask(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        """Find out whether Qdrant is back: drain one partition after another until one has sent a request."""
        results: dict[int, DrainResult] = {}
        for asked, partition in enumerate(partitions, start=1):
            results |= await self._drain_now([partition])
            if not self._outages.is_asking:
                others = partitions[asked:]
                return results | (await self._drain(others) if others else {})
        return results

    async def _drain_now(self, partitions: Sequence[int]) -> dict[int, DrainResult]:
        """Drain in step, but drain each partition by itself whose last batch failed, so that others need not wait."""
        failed = [partition for partition in partitions if self._outages.failures(partition)]
        well = [partition for partition in partitions if partition not in failed]
        if len(well) == 1:
            failed, well = [*failed, *well], []
        drains = [self._drain_one(partition) for partition in failed]
        if well:
            drains.append(self._group.drain(well))
        found: dict[int, DrainResult] = {}
        for results in await all_of(drains):
            found |= results
        return found

    async def _drain_one(self, partition: int) -> dict[int, DrainResult]:
        return {partition: await self._single.drain(partition)}
