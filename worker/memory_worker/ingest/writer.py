"""Writes batches to Qdrant, under the leases of their partitions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis

from memory_worker.contract import Upsert, WriteJob
from memory_worker.contract.errors import CollectionUnfit
from memory_worker.failpoints import failpoint
from memory_worker.ingest.leased_requests import next_deadline, send_leased
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.plan import CollectionPlan, needs_existing, plan
from memory_worker.ingest.request_gate import RequestGate
from memory_worker.queue.lease import Lease
from memory_worker.store.messages import WriteRequest
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys

_REQUESTS_AT_ONCE = 8
"""The most requests of one batch that are sent at the same time. A purge may reach hundreds of collections."""


class LeasedWriter:
    """Writes to Qdrant. It sends nothing after a lease has ended, and each request must end before its lease does."""

    def __init__(self, redis: Redis, keys: Keys, store: VectorStore, options: DrainOptions, gate: RequestGate) -> None:
        self._gate = gate
        self._redis = redis
        self._keys = keys
        self._store = store
        self._options = options

    async def write(self, leases: Sequence[Lease], jobs: Sequence[WriteJob]) -> None:
        """Apply ``jobs`` of the leased partitions. The jobs of each partition are in order.

        Each collection gets one request. Their order does not matter, so several are sent at the same time.

        Raises `StoreRefused`, `StoreUnavailable`, `ConfigurationError`, `NotReplicated`, and `LeaseLost` if one of the
        leases is lost.
        """
        steps = [step for step in await self._plan(jobs) if await self._store.make_ready(step.ref, step.operations)]
        for first in range(0, len(steps), _REQUESTS_AT_ONCE):
            failpoint("before_send")
            chosen = steps[first : first + _REQUESTS_AT_ONCE]
            requests = [(step.ref, self._store.request_for(step.ref, step.operations)) for step in chosen]
            async with self._gate.pass_through():
                await self._send(leases, requests)
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

    async def _send(self, leases: Sequence[Lease], requests: Sequence[tuple[CollectionRef, WriteRequest]]) -> None:
        deadline = await next_deadline(self._redis, self._keys, leases, self._options)
        await send_leased(self._store, leases, requests, deadline)
