"""Writes batches to Qdrant, under the leases of their partitions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis

from memory_worker.contract import Upsert, WriteJob
from memory_worker.contract.errors import CollectionUnfit, DeadlinePassed, LeaseLost, StoreError, StoreUnavailable
from memory_worker.failpoints import failpoint
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.plan import CollectionPlan, needs_existing, plan
from memory_worker.queue.lease import Lease, LeaseState, renew_leases
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys


class LeasedWriter:
    """Writes to Qdrant. It sends nothing after a lease has ended, and each request must end before its lease does."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, options: DrainOptions) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._options = options

    async def write(self, leases: Sequence[Lease], jobs: Sequence[WriteJob]) -> None:
        """Apply ``jobs`` of the leased partitions. The jobs of each partition are in order.

        Raises `StoreRefused`, `StoreUnavailable`, `ConfigurationError`, `NotReplicated`, and `LeaseLost` if one of the
        leases is lost.
        """
        for step in await self._plan(jobs):
            if await self._store.make_ready(step.ref, step.operations):
                failpoint("before_send")
                await self._send(leases, step)
                failpoint("sent")

    async def probe(self, jobs: Sequence[WriteJob]) -> None:
        """Return if Qdrant accepts harmless writes to the collections of ``jobs``; raises as `write` if it does not.

        If a namespace cannot store such a job, the probe does not fail, because only the job is to blame.
        """
        with suppress(CollectionUnfit):
            for step in await self._plan(jobs):
                if await self._store.make_ready(step.ref, step.operations):
                    await self._store.probe(step.ref)

    async def _plan(self, jobs: Sequence[WriteJob]) -> list[CollectionPlan]:
        return plan(jobs, await self._existing(jobs), self._store.collections.kinds)

    async def _existing(self, jobs: Sequence[WriteJob]) -> Sequence[CollectionRef]:
        """Return the existing collections that the plan of ``jobs`` depends on.

        The namespaces of all upserts are created first, even if a later purge leaves nothing to write to them. A
        namespace that cannot store its upserts is refused here, before anything is purged.
        """
        if not needs_existing(jobs, self._store.collections.kinds):
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
        """Return the monotonic time at which the next request must end, which is before any of the leases ends.

        If replicas must confirm, all leases are renewed. A replica that has the renewal also has all writes before it:
        the pushes, and the collections of the registry. So they survive a failover, and the leases last on the new
        primary for as long as this process counts on them.
        """
        options = self._options
        enough_s = float("inf") if options.min_replicas else options.request_timeout_s + options.margin_s
        short = [lease for lease in leases if not lease.lasts(enough_s)]
        await renew_leases(self._redis, self._keys, short, min_replicas=options.min_replicas)
        until = min(lease.until for lease in leases) - options.margin_s
        return min(time.monotonic() + options.request_timeout_s, until)


def _set_state(leases: Sequence[Lease], state: LeaseState) -> None:
    for lease in leases:
        lease.state = state
