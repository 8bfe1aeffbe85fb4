"""Requests to Qdrant under leases: when they must end, and what their outcome says about the leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis

from memory_worker.contract.errors import DeadlinePassed, LeaseLost, StoreError, StoreUnavailable
from memory_worker.queue.lease import Lease, LeaseState, renew_leases, set_states
from memory_worker.store.messages import WriteRequest
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys


class RequestOptions(Protocol):
    """The options of requests that are sent under leases."""

    @property
    def request_timeout_s(self) -> float:
        """How long a request may take."""

    @property
    def margin_s(self) -> float:
        """How long before its lease a request must end."""

    @property
    def min_replicas(self) -> int:
        """How many replicas of Redis must have a lease before a request is sent under it."""


async def next_deadline(redis: Redis, keys: Keys, leases: Sequence[Lease], options: RequestOptions) -> float:
    """Return the monotonic time at which the next requests must end, ``margin_s`` before any of the leases ends.

    Leases that end too early are renewed. If replicas must confirm, all are. A replica that has the renewal also has
    all writes before it: the pushes, and the collections of the registry. So they survive a failover, and the leases
    last on the new primary for as long as this process counts on them. Raises `LeaseLost`, `NotReplicated`.
    """
    timeout_s, margin_s = options.request_timeout_s, options.margin_s
    enough_s = float("inf") if options.min_replicas else timeout_s + margin_s
    short = [lease for lease in leases if not lease.lasts(enough_s)]
    await renew_leases(redis, keys, short, min_replicas=options.min_replicas)
    return min(time.monotonic() + timeout_s, *(lease.until - margin_s for lease in leases))


async def send_leased(
    store: VectorStore, leases: Sequence[Lease], requests: Sequence[tuple[CollectionRef, WriteRequest]], deadline: float
) -> None:
    """Send requests together. The leases are in doubt until it is certain that none of them is applied later.

    Raises as `VectorStore.send_request`, and `LeaseLost` instead of `DeadlinePassed`.
    """
    set_states(leases, LeaseState.IN_DOUBT)
    sent = (store.send_request(ref, request, deadline=deadline) for ref, request in requests)
    results = await asyncio.gather(*sent, return_exceptions=True)
    errors = sorted((result for result in results if result is not None), key=_severity)
    if not (errors and _severity(errors[0]) == _IN_DOUBT):
        set_states(leases, LeaseState.HELD)
    if errors and isinstance(errors[0], DeadlinePassed):
        raise LeaseLost from errors[0]
    if errors:
        raise errors[0]


_IN_DOUBT = 0


def _severity(error: BaseException) -> int:
    """Return the place of an error in the order in which errors of one batch are reported, the worst first."""
    match error:
        case StoreUnavailable():
            return _IN_DOUBT if error.in_doubt else 2
        case DeadlinePassed():
            return 1
        case StoreError():
            return 3
    return _IN_DOUBT  # an unexpected error
