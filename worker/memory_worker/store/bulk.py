"""Bulk mode: Qdrant holds back indexing during a large import, and indexes everything afterwards.

The mode is stored only in Qdrant, in each collection (`memory_worker.store.indexing`). So both commands can be
interrupted and repeated. A collection that is created during the import is in bulk mode, too.
"""

from __future__ import annotations

import msgspec

from memory_worker.contract.errors import ConfigurationError
from memory_worker.store.collections import Collections
from memory_worker.store.indexing import held, is_held, restored, threshold_of
from memory_worker.store.operations import CollectionRef

_PASSES = 3
"""Repeat, because a worker may create a collection in bulk mode after this command has listed the collections."""


class IndexingState(msgspec.Struct, frozen=True):
    """The indexing of a collection: whether it is held back, and the threshold in kB without bulk mode.

    The numbers of points and of indexed vectors are Qdrant's approximate counts.
    """

    name: str
    held: bool
    threshold_kb: int
    points: int
    indexed_vectors: int


class BulkMode:
    """Bulk mode of all collections of this deployment, including namespaces. All methods raise `StoreError`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def state(self) -> list[IndexingState]:
        """Return the state of all collections, sorted by name."""
        found = [await self._state_of(ref) for ref in await self._collections.existing()]
        return sorted((state for state in found if state is not None), key=lambda state: state.name)

    async def on(self) -> list[IndexingState]:
        """Hold back indexing, and return the new state. The base collections are created first.

        Raises `ConfigurationError`, with nothing changed, if a collection would no longer accept writes.
        """
        for ref in self._collections.bases():
            await self._collections.ensure(ref)
        for ref in await self._collections.reach():
            await self._check_can_be_held(ref)
        await self._set(to_be_held=True)
        return await self.state()

    async def off(self) -> list[IndexingState]:
        """Restore the indexing of each collection, and return the new state."""
        for _ in range(_PASSES):
            if not await self._set(to_be_held=False):
                break
        return await self.state()

    async def _set(self, *, to_be_held: bool) -> bool:
        """Turn the mode on or off in all collections. Return whether any collection was changed."""
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
        """Refuse a collection with both of these settings: Qdrant would hold back its writes until it is indexed."""
        info = await self._collections.describe(ref)
        if info is None:
            return
        optimizer = info.config.optimizer_config
        if optimizer.prevent_unoptimized and optimizer.max_segment_size:
            raise ConfigurationError(
                f"collection {self._collections.name(ref)} has prevent_unoptimized and max_segment_size, so it would "
                "refuse writes while indexing is held back; unset one of them first"
            )
