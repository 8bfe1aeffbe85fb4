"""Writes of several drains as one request: what is small by itself costs little together.

Drains of different partitions write for different users, so that what they ask for may be done in any order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from worker.errors import StoreError, StoreRefused
from worker.ingest.plan import CollectionPlan, merged
from worker.join import Joiner
from worker.store.store import VectorStore


class _Write(NamedTuple):
    plan: CollectionPlan
    until: float


class JointWriter:
    """Applies what drains ask for at the same time, in requests of ``most_jobs`` points or one drain's."""

    def __init__(self, store: VectorStore, *, most_jobs: int) -> None:
        self._store = store
        self._joiner = Joiner[_Write, None](
            self._apply, most=most_jobs, key=lambda write: write.plan.ref, weigh=lambda write: write.plan.size
        )

    async def write(self, plan: CollectionPlan, *, timeout_s: float) -> None:
        """Apply the plan of one drain; raises as `VectorStore.apply`."""
        await self._joiner.do(_Write(plan, time.monotonic() + timeout_s))

    async def _apply(self, writes: list[_Write]) -> Sequence[Exception | None]:
        if len(writes) == 1:
            return [await self._apply_or_error(writes[0])]
        joint = merged(write.plan for write in writes)
        try:
            await self._store.apply(joint.ref, joint.operations, timeout_s=_left_s(writes))
        except StoreRefused:  # one bad write is no reason to refuse the others
            return await asyncio.gather(*map(self._apply_or_error, writes))
        return [None] * len(writes)

    async def _apply_or_error(self, write: _Write) -> StoreError | None:
        try:
            await self._store.apply(write.plan.ref, write.plan.operations, timeout_s=_left_s([write]))
        except StoreError as error:
            return error
        return None


def _left_s(writes: Sequence[_Write]) -> float:
    """Return how long a request may take that must end before the lease of any of its drains does."""
    return min(write.until for write in writes) - time.monotonic()
