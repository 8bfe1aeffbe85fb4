"""The drainer: drains partitions of one queue into one store, one by one or in groups."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from memory_worker.ingest.context import DrainContext, DrainResult, Opened, wait_for_all
from memory_worker.ingest.drain import PartitionDrain
from memory_worker.ingest.group import GroupDrain
from memory_worker.ingest.options import DrainOptions
from memory_worker.queue.drain_jobs import OpenOptions
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import Head
from memory_worker.store.store import VectorStore
from memory_worker.telemetry.metrics import DRAINS
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys


class Drainer:
    """Drains partitions of one queue into one store. A process has one; ``process`` is the id of the process."""

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
        self._context = context
        self._outages = context.outages
        self._single = PartitionDrain(context)
        self._group = GroupDrain(context, self._single)

    def recent_error(self, *, within_s: float) -> str | None:
        """Return the last error of Qdrant, unless it is older than ``within_s`` or something was applied since."""
        return self._outages.recent_error(within_s=within_s)

    async def drain(self, partition: int) -> DrainResult:
        """Apply the entries of ``partition`` for one time slice. Raises as `drain_group`."""
        return (await self.drain_group([partition]))[partition]

    def opening(self) -> OpenOptions | None:
        """Return how to open partitions when they are claimed; ``None`` if `drain_group` must open them."""
        return self._context.opening()

    async def drain_group(
        self, partitions: Sequence[int], opened: Sequence[tuple[Lease, Head | None]] = ()
    ) -> dict[int, DrainResult]:
        """Apply the entries of ``partitions``: of one for a time slice, of several as one batch together.

        ``opened`` are those that were opened when they were claimed. A partition is left alone if another drain holds
        its lease, or while Qdrant is away. Raises `QueueError`, `PartitionMismatch`.
        """
        async with self._context.holding(opened) as held:
            if self._context.stopping():  # they were claimed by a command that was under way
                return dict.fromkeys(partitions, DrainResult(ending="stopped"))
            results = await self._drain(partitions, held)
        for result in results.values():
            DRAINS.labels(result.ending).inc()
        self._outages.report()
        return results

    async def _drain(self, partitions: Sequence[int], opened: Opened) -> dict[int, DrainResult]:
        wait_s = self._outages.wait_s()
        if wait_s > 0:
            return dict.fromkeys(partitions, DrainResult(ending="outage", wake_after_s=wait_s))
        if not self._outages.is_open:
            return await self._drain_now(partitions, opened)
        return await self._probe(sorted(partitions, key=self._outages.failures), opened)

    async def _probe(self, partitions: Sequence[int], opened: Opened) -> dict[int, DrainResult]:
        """Drain one partition after another until one has sent a request to Qdrant, then the others."""
        results: dict[int, DrainResult] = {}
        for tried, partition in enumerate(partitions, start=1):
            results |= await self._drain_now([partition], opened)
            if not self._outages.is_probing:
                others = partitions[tried:]
                return results | (await self._drain(others, opened) if others else {})
        return results

    async def _drain_now(self, partitions: Sequence[int], opened: Opened) -> dict[int, DrainResult]:
        """Drain as a group. Drain each partition by itself whose last batch failed, so that others need not wait."""
        single = [partition for partition in partitions if self._outages.failures(partition)]
        group = [partition for partition in partitions if partition not in single]
        if len(group) == 1:
            single, group = [*single, *group], []
        drains = [self._drain_single(partition, opened) for partition in single]
        if group:
            drains.append(self._group.drain(group, opened))
        found: dict[int, DrainResult] = {}
        for results in await wait_for_all(drains):
            found |= results
        return found

    async def _drain_single(self, partition: int, opened: Opened) -> dict[int, DrainResult]:
        return {partition: await self._single.drain(partition, opened)}
