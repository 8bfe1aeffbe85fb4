"""The collections of this deployment: made or adopted at first use, checked once, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from qdrant_client import grpc as q

from memory_worker.contract.errors import StoreError, StoreUnavailable
from memory_worker.contract.kinds import IndexType
from memory_worker.store.collection_calls import CollectionCalls
from memory_worker.store.creation import creation_of, index_of, unlike_settings
from memory_worker.store.fitness import misfit, needs_indexes, unfit
from memory_worker.store.indexing import is_held, threshold_of
from memory_worker.store.membership import Membership
from memory_worker.store.operations import CollectionRef
from memory_worker.store.pins import put_pin
from memory_worker.store.registry import Origin, Registry
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape


class Collections:
    """The collections of this deployment, by kind and namespace. All methods that ask Qdrant raise `StoreError`."""

    def __init__(self, rpc: QdrantRpc, shape: CollectionShape, registry: Registry) -> None:
        self._calls = CollectionCalls(rpc)
        self._shape = shape
        self._membership = Membership(self._calls, shape, registry)
        self._registered: set[CollectionRef] = set()  # it is there, and deletes may be sent
        self._ready: set[CollectionRef] = set()  # it is checked and indexed as well, and vectors may be sent
        self._preparing = asyncio.Lock()

    @property
    def dimension(self) -> int:
        """The dimension of all vectors."""
        return self._shape.dimension

    @property
    def tenants(self) -> bool:
        """Whether points written name their user as a tenant."""
        return self._shape.tenant_index

    @property
    def quantized(self) -> bool:
        """Whether vectors are meant to be quantized, so that searches must make up for it."""
        return self._shape.quantize_int8

    def bases(self) -> list[CollectionRef]:
        """Return the collections that every installation has."""
        return self._shape.bases()

    def indexes(self, ref: CollectionRef) -> Mapping[str, IndexType]:
        """Return the payload fields that are indexed, and how."""
        return self._shape.indexes(ref.kind)

    def name(self, ref: CollectionRef) -> str:
        """Return the name of a collection in Qdrant."""
        return self._shape.name(ref)

    def origin(self, ref: CollectionRef) -> Origin | None:
        """Return who made a collection; ``None``: this process has not written to it yet."""
        return self._membership.origin(ref)

    async def ensure(self, ref: CollectionRef) -> str:
        """Make the collection and its payload indexes unless they exist, and register it; return its name.

        Raises `ConfigurationError` for a base collection of another dimension or distance, `CollectionUnfit` for such
        a namespace, `StoreUnavailable`.
        """
        if ref not in self._ready:
            async with self._preparing:
                if ref not in self._ready:
                    await self._make_ready(ref)
                    self._registered.add(ref)
                    self._ready.add(ref)
        return self.name(ref)

    async def adopt(self, ref: CollectionRef) -> bool:
        """Register a collection that deletes are to be sent to; return ``False`` if it does not exist.

        Deletes do not depend on its dimension. Raises `CollectionUnfit` where an alias makes it another one of ours.
        """
        if ref not in self._registered:
            async with self._preparing:
                if ref not in self._registered and not await self._adopt(ref):
                    return False
        return True

    def forget(self, ref: CollectionRef) -> None:
        """Look again before the next use: somebody may have dropped the collection."""
        self._ready.discard(ref)
        self._registered.discard(ref)

    async def drop(self, ref: CollectionRef) -> None:
        """Delete a collection with all its points."""
        self.forget(ref)
        await self._calls.drop(self.name(ref))

    async def existing(self) -> list[CollectionRef]:
        """Return those of our collections that exist. It changes nothing."""
        return await self._membership.existing()

    async def reach(self) -> list[CollectionRef]:
        """Return the collections that a purge must reach: as `existing`, after a registry that was lost is restored.

        Raises `ConfigurationError` where an alias makes two of them one collection.
        """
        return await self._membership.reach()

    async def foreign(self) -> list[str]:
        """Return the collections and aliases that could be namespaces of ours by their names, and are not."""
        return await self._membership.foreign()

    async def check_distinct(self) -> None:
        """Raise `ConfigurationError` where an alias makes two of our collections one."""
        await self._membership.check_distinct()

    async def restore(self) -> None:
        """Register again what a registry that was lost has named, as far as it can be known."""
        await self._membership.restore()

    async def prepare(self) -> None:
        """Restore the registry, then make and check the collections that every installation has.

        Raises `ConfigurationError` for those that cannot be used, and where an alias makes two of ours one collection.
        """
        await self.restore()
        await self.check_distinct()
        for ref in self.bases():
            await self.ensure(ref)

    async def describe(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """Return Qdrant's own description of a collection; ``None`` when it does not exist."""
        return await self._calls.describe(self.name(ref))

    async def checked(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """Describe a collection without making it; raises as `ensure` for a wrong dimension or distance."""
        info = await self.describe(ref)
        if info is not None:
            self._check(ref, info)
        return info

    async def set_indexing_threshold(self, ref: CollectionRef, threshold_kb: int) -> None:
        """Have a collection index segments of more than ``threshold_kb``."""
        request = q.UpdateCollection(collection_name=self.name(ref))
        request.optimizers_config.indexing_threshold = threshold_kb
        await self._calls.update(request)

    def unlike_settings(self, info: q.CollectionInfo) -> list[str]:
        """Return what the settings ask for by name and a collection has not: it was made before, or by others."""
        return list(unlike_settings(self._shape, info.config))

    async def _make_ready(self, ref: CollectionRef) -> None:
        info, made = await self.describe(ref), False
        if info is None:
            made = await self._create(ref)
            info = await self.describe(ref)
            if info is None:
                raise StoreUnavailable(f"collection {self.name(ref)} was created, but is not there", code="NOT_FOUND")
        self._check(ref, info)
        if not made:
            await self._membership.check_is_own(ref)
        await self._index(ref, info)
        await self._membership.register(ref, info, made=made)

    async def _adopt(self, ref: CollectionRef) -> bool:
        info = await self.describe(ref)
        if info is None:
            return False
        await self._membership.check_is_own(ref)
        if needs_indexes(info):
            await self._index(ref, info)
        await self._membership.register(ref, info)
        self._registered.add(ref)
        return True

    async def _create(self, ref: CollectionRef) -> bool:
        """Create a collection; return ``False`` if it is there, but perhaps not by this call."""
        request = creation_of(self.name(ref), self._shape)
        put_pin(request.metadata, self._membership.pin(ref, "made"))
        held = await self._held_threshold()
        if held is not None:
            request.optimizers_config.indexing_threshold = held
        try:
            await self._calls.create(request)
        except StoreError:
            # Another worker may have been faster; what counts is whether the collection is there now.
            if await self.describe(ref) is None:
                raise
            return False
        return True

    async def _held_threshold(self) -> int | None:
        """Return the threshold of a collection in bulk mode: one that is made meanwhile is part of the same import."""
        for ref in await self.existing():
            info = await self.describe(ref)
            if info is not None and is_held(threshold_of(info)):
                return threshold_of(info)
        return None

    async def _index(self, ref: CollectionRef, info: q.CollectionInfo) -> None:
        for field, index in self.indexes(ref).items():
            if field not in info.payload_schema:
                await self._calls.index(index_of(self.name(ref), field, index, info.config))

    def _check(self, ref: CollectionRef, info: q.CollectionInfo) -> None:
        why = misfit(self.name(ref), info, self.dimension)
        if why is not None:
            raise unfit(ref, why)
