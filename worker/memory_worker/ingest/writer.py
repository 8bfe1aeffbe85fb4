"""Writes what batches come to, under the leases of their partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis

from memory_worker.contract import Upsert, WriteJob
from memory_worker.contract.errors import CollectionUnfit, DeadlinePassed, LeaseLost, StoreError, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.plan import CollectionPlan, needs_existing, plan
from memory_worker.queue.lease import Lease, LeaseState, renew_lease
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys


class LeasedWriter:
    """Writes to Qdrant; nothing is sent after a lease has ended, and no request may take longer than a lease lasts."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, options: DrainOptions) -> None:
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
            if await self._store.make_ready(step.ref, step.operations):
                failpoint("before_send")
                await self._send(leases, step)
                failpoint("sent")

    async def probe(self, jobs: Sequence[WriteJob]) -> None:
        """Return if Qdrant takes harmless writes to the collections of ``jobs``; raises as `write` if it does not.

        A namespace that can never take such a job is a matter of that job, and says nothing about Qdrant.
        """
        with suppress(CollectionUnfit):
            for step in plan(jobs, await self._existing(jobs)):
                if await self._store.make_ready(step.ref, step.operations):
                    await self._store.probe(step.ref)

    async def _existing(self, jobs: Sequence[WriteJob]) -> Sequence[CollectionRef]:
        """Return the collections that the plan of ``jobs`` must know of.

        A namespace that upserts name counts from then on, also if the purge behind them leaves nothing to be written;
        one that cannot take them is refused here, and is not purged.
        """
        if not needs_existing(jobs):
            return ()
        named = (CollectionRef(job.kind, job.namespace) for job in jobs if isinstance(job, Upsert) and job.namespace)
        for ref in dict.fromkeys(named):
            await self._store.collections.ensure(ref)
        return await self._store.collections.reach()

    async def _send(self, leases: Sequence[Lease], step: CollectionPlan) -> None:
        deadline = await self._deadline(leases)
        _set_state(leases, LeaseState.IN_DOUBT)
        try:
            await self._store.send(step.ref, step.operations, deadline=deadline)
        except DeadlinePassed as error:
            _set_state(leases, LeaseState.HELD)
            raise LeaseLost from error
        except StoreError as error:
            if not (isinstance(error, StoreUnavailable) and error.in_doubt):
                _set_state(leases, LeaseState.HELD)
            raise
        _set_state(leases, LeaseState.HELD)

    async def _deadline(self, leases: Sequence[Lease]) -> float:
        """Return the monotonic time at which the next request must have ended: before any of the leases does."""
        options = self._options
        short = [lease for lease in leases if not lease.lasts(options.request_timeout_s + options.margin_s)]
        await asyncio.gather(*(renew_lease(self._redis, self._keys, lease) for lease in short))
        until = min(lease.until for lease in leases) - options.margin_s
        return min(time.monotonic() + options.request_timeout_s, until)


def _set_state(leases: Sequence[Lease], state: LeaseState) -> None:
    for lease in leases:
        lease.state = state
