"""Writes what batches come to, under the leases of their partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arq.connections import ArqRedis

from memory_worker.contract import WriteJob
from memory_worker.errors import StoreError, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.plan import CollectionPlan, needs_existing, plan
from memory_worker.queue.keys import Keys
from memory_worker.queue.lease import Lease, renew_lease
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore


class LeasedWriter:
    """Writes to Qdrant; nothing is sent with a deadline beyond what is left of a lease."""

    def __init__(self, redis: ArqRedis, keys: Keys, store: VectorStore, options: DrainOptions) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._options = options

    async def write(self, leases: Sequence[Lease], jobs: Sequence[WriteJob]) -> None:
        """Apply ``jobs``, which are those of the leased partitions, each partition's in order.

        Raises `StoreRefused`, `StoreUnavailable`, `ConfigurationError`; `LeaseLost` when one of the leases is;
        `NotReplicated`.
        """
        if self._options.min_replicas:
            # A replica that has the renewal has all that was pushed before it: what is applied survives a failover.
            await renew_lease(self._redis, self._keys, leases[0], min_replicas=self._options.min_replicas)
        for step in plan(jobs, await self._existing(jobs)):
            await self._store.make_ready(step.ref, step.operations)
            failpoint("before_send")
            await self._send(leases, step)
            failpoint("sent")

    async def probe(self, job: WriteJob) -> None:
        """Return if Qdrant takes harmless writes to the collections of ``job``; raises as `write` if it does not."""
        for step in plan([job], await self._existing([job])):
            if await self._store.make_ready(step.ref, step.operations):
                await self._store.probe(step.ref)

    async def _existing(self, jobs: Sequence[WriteJob]) -> Sequence[CollectionRef]:
        """Return the collections that the plan of ``jobs`` must know of."""
        return await self._store.collections.existing() if needs_existing(jobs) else ()

    async def _send(self, leases: Sequence[Lease], step: CollectionPlan) -> None:
        timeout_s = await self._deadline_s(leases)
        _set_in_doubt(leases, True)
        try:
            await self._store.apply(step.ref, step.operations, timeout_s=timeout_s)
        except StoreError as error:
            _set_in_doubt(leases, isinstance(error, StoreUnavailable) and error.in_doubt)
            raise
        _set_in_doubt(leases, False)

    async def _deadline_s(self, leases: Sequence[Lease]) -> float:
        """Return how long the next request may take: it must end before any of the leases does."""
        options = self._options
        least_s = options.request_timeout_s + options.margin_s
        short = [lease for lease in leases if lease.remaining_s() < least_s]
        await asyncio.gather(*(renew_lease(self._redis, self._keys, lease) for lease in short))
        return min(options.request_timeout_s, min(lease.remaining_s() for lease in leases) - options.margin_s)


def _set_in_doubt(leases: Sequence[Lease], in_doubt: bool) -> None:
    for lease in leases:
        lease.in_doubt = in_doubt
