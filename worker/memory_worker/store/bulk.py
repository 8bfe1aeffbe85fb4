"""Bulk mode: Qdrant holds back indexing during a large import, and indexes all of it afterwards.

The mode stands in Qdrant, in each collection (`memory_worker.store.indexing`), and nowhere else. So each collection
is in it or not, both commands can be interrupted and given again, and a collection made meanwhile joins the others.
"""

from __future__ import annotations

import msgspec

from memory_worker.contract.errors import ConfigurationError
from memory_worker.store.collections import Collections
from memory_worker.store.indexing import held, is_held, restored, threshold_of
from memory_worker.store.operations import CollectionRef

_PASSES = 3
"""A worker that looked before indexing was resumed may make a collection after it."""


class IndexingState(msgspec.Struct, frozen=True):
    """A collection: whether indexing is held back, its threshold in kB without bulk mode, points and vectors indexed.

    Points and vectors are what Qdrant says: about.
    """

    name: str
    held: bool
    threshold_kb: int
    points: int
    indexed_vectors: int


class BulkMode:
    """Bulk mode of all collections of this deployment, namespaces among them. All raise `StoreError`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def state(self) -> list[IndexingState]:
        """Return how it is, by name of the collection."""
        found = [await self._state_of(ref) for ref in await self._collections.existing()]
        return sorted((state for state in found if state is not None), key=lambda state: state.name)

    async def on(self) -> list[IndexingState]:
        """Hold back indexing; return how it is then. The collections that every installation has are made first.

        Raises `ConfigurationError`, with nothing changed, where a collection would stop taking writes.
        """
        for ref in self._collections.bases():
            await self._collections.ensure(ref)
        for ref in await self._collections.reach():
            await self._check_can_be_held(ref)
        await self._set(to_be_held=True)
        return await self.state()

    async def off(self) -> list[IndexingState]:
        """Have each collection index as it did before; return how it is then."""
        for _ in range(_PASSES):
            if not await self._set(to_be_held=False):
                break
        return await self.state()

    async def _set(self, *, to_be_held: bool) -> bool:
        """Bring all collections into the mode, or out of it; say whether any of them had to be."""
        changed = False
        for ref in await self._collections.reach():
            info = await self._collections.describe(ref)
            if info is not None and is_held(threshold_of(info)) != to_be_held:
                threshold = threshold_of(info)
                await self._collections.set_indexing_threshold(
                    ref, held(threshold) if to_be_held else restored(threshold)
                )
                changed = True
        return changed

    async def _state_of(self, ref: CollectionRef) -> IndexingState | None:
        info = await self._collections.describe(ref)
        if info is None:  # dropped since it was listed
            return None
        threshold = threshold_of(info)
        return IndexingState(
            name=self._collections.name(ref),
            held=is_held(threshold),
            threshold_kb=restored(threshold),
            points=info.points_count,
            indexed_vectors=info.indexed_vectors_count,
        )

    async def _check_can_be_held(self, ref: CollectionRef) -> None:
        """With both of these set, Qdrant keeps back writes until a segment is indexed, which it then never would be."""
        info = await self._collections.describe(ref)
        if info is None:
            return
        optimizer = info.config.optimizer_config
        if optimizer.prevent_unoptimized and optimizer.max_segment_size:
            raise ConfigurationError(
                f"collection {self._collections.name(ref)} has prevent_unoptimized and max_segment_size: it would "
                "take no writes while indexing is held back; unset one of them first"
            )
