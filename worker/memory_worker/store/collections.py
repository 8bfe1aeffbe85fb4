"""The collections of this deployment. Each is created or adopted at its first use, and checked once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from qdrant_client import grpc as q

from memory_worker.contract.errors import StoreError, StoreUnavailable
from memory_worker.contract.kinds import TENANT_FIELD, IndexType, Kinds
from memory_worker.store.collection_calls import CollectionCalls
from memory_worker.store.compatibility import incompatibility, needs_indexes, unfit_error
from memory_worker.store.creation import creation_of, has_user_graphs, index_of
from memory_worker.store.index_settings import index_settings
from memory_worker.store.indexing import held, is_held, threshold_of
from memory_worker.store.membership import Membership
from memory_worker.store.operations import CollectionRef
from memory_worker.store.pins import put_pin
from memory_worker.store.registry import Origin, Registry
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.server_version import Version
from memory_worker.store.shape import CollectionShape


class Collections:
    """The collections of this deployment, by kind and namespace. All methods that ask Qdrant raise `StoreError`."""

    def __init__(self, rpc: QdrantRpc, shape: CollectionShape, registry: Registry) -> None:
        self._calls = CollectionCalls(rpc)
        self._shape = shape
        self._membership = Membership(self._calls, shape, registry)
        self._registered: set[CollectionRef] = set()  # it exists, and deletes may be sent
        self._ready: set[CollectionRef] = set()  # it is also checked and indexed, and vectors may be sent
        self._with_tenant_field: set[CollectionRef] = set()
        self._preparing = asyncio.Lock()

    @property
    def kinds(self) -> Kinds:
        """The kinds of the deployment."""
        return self._shape.kinds

    def dimension_of(self, ref: CollectionRef) -> int:
        """Return the dimension of a collection's vectors."""
        return self._shape.dimension_of(ref.kind)

    @property
    def shape(self) -> CollectionShape:
        """The names of the collections, and the settings of new ones."""
        return self._shape

    @property
    def quantized(self) -> bool:
        """Whether vectors are quantized, so that searches must rescore."""
        return self._shape.quantize_int8

    def bases(self) -> list[CollectionRef]:
        """Return the base collections, which every deployment has."""
        return self._shape.bases()

    def indexes(self, ref: CollectionRef) -> Mapping[str, IndexType]:
        """Return the type of each payload index."""
        return self._shape.indexes(ref.kind)

    def name(self, ref: CollectionRef) -> str:
        """Return the name of a collection in Qdrant."""
        return self._shape.name(ref)

    def has_tenant_field(self, ref: CollectionRef) -> bool:
        """Whether written points name their user in the tenant field, because a worker 0.1 has indexed it."""
        return ref in self._with_tenant_field

    def origin(self, ref: CollectionRef) -> Origin | None:
        """Return the origin of a collection, or ``None`` if this process has not written to it yet."""
        return self._membership.origin(ref)

    def may_have_integer_ids(self, ref: CollectionRef) -> bool:
        """Whether points may be under integer ids. ``False`` only if the collection's own pin excludes it.

        The answer is ``True`` for a collection that is not registered now, because it may have been dropped and created
        again by others.
        """
        return ref not in self._registered or self._membership.may_have_integer_ids(ref)

    async def mark_rekeyed(self, ref: CollectionRef) -> None:
        """Record that an adopted collection has no integer ids left. Collections of other origins stay as they are."""
        info = await self.describe(ref)
        if info is not None:
            await self._membership.mark_rekeyed(ref, info)

    async def ensure(self, ref: CollectionRef) -> str:
        """Create the collection and its payload indexes unless they exist, register it, and return its name.

        For another dimension or distance, raises `ConfigurationError` if it is a base collection, `CollectionUnfit` if
        it is a namespace. Also raises `StoreUnavailable`.
        """
        if ref not in self._ready:
            async with self._preparing:
                if ref not in self._ready:
                    await self._make_ready(ref)
                    self._registered.add(ref)
                    self._ready.add(ref)
        return self.name(ref)

    async def adopt(self, ref: CollectionRef) -> bool:
        """Register a collection before deletes are sent to it. Return ``False`` if it does not exist.

        The dimension is not checked, because deletes do not depend on it. Raises `CollectionUnfit` if its name is an
        alias of another collection of this deployment.
        """
        if ref not in self._registered:
            async with self._preparing:
                if ref not in self._registered and not await self._adopt(ref):
                    return False
        return True

    def forget(self, ref: CollectionRef) -> None:
        """Check the collection again before its next use, because it may have been dropped."""
        self._ready.discard(ref)
        self._registered.discard(ref)
        self._with_tenant_field.discard(ref)

    async def drop(self, ref: CollectionRef) -> None:
        """Delete a collection with all its points."""
        self.forget(ref)
        await self._calls.drop(self.name(ref))

    async def existing(self) -> list[CollectionRef]:
        """Return the collections of this deployment that exist. This changes nothing."""
        return await self._membership.existing()

    async def known(self) -> dict[CollectionRef, str]:
        """Return the collections as `existing`, with those of a lost registry, each with its name behind an alias."""
        return await self._membership.known()

    async def reach(self) -> list[CollectionRef]:
        """Return the collections that a purge must reach. As `existing`, but a lost registry is restored first.

        Raises `ConfigurationError` if two names of this deployment refer to one collection.
        """
        return await self._membership.reach()

    async def foreign(self) -> list[str]:
        """Return the collections and aliases that are named like namespaces of this deployment, but are not."""
        return await self._membership.foreign()

    async def check_distinct(self) -> None:
        """Raise `ConfigurationError` if two names of this deployment refer to one collection."""
        await self._membership.check_distinct()

    async def restore(self) -> None:
        """Register the collections again that a lost registry had, as far as they are known."""
        await self._membership.restore()

    async def prepare(self) -> None:
        """Restore the registry, then create and check the base collections. Add missing indexes to the namespaces.

        Raises `ConfigurationError` if one of them cannot be used, and as `check_distinct`.
        """
        await self.restore()
        await self.check_distinct()
        for ref in self.bases():
            await self.ensure(ref)
        for ref in await self.existing():
            info = await self.describe(ref) if ref.namespace is not None else None
            if info is not None:
                await self._index(ref, info)

    async def describe(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """Return Qdrant's description of a collection, or ``None`` if it does not exist."""
        return await self._calls.describe(self.name(ref))

    async def describe_and_check(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """As `describe`; raises as `ensure` for a wrong dimension or distance."""
        info = await self.describe(ref)
        if info is not None:
            self._check(ref, info)
        return info

    async def set_indexing_threshold(self, ref: CollectionRef, threshold_kb: int) -> None:
        """Let Qdrant index only segments of more than ``threshold_kb``."""
        request = q.UpdateCollection(collection_name=self.name(ref))
        request.optimizers_config.indexing_threshold = threshold_kb
        await self._calls.update(request)

    async def update(self, request: q.UpdateCollection) -> None:
        """Change the settings of a collection."""
        await self._calls.update(request)

    async def index_again(self, request: q.CreateFieldIndexCollection, *, timeout_s: float) -> None:
        """Create a payload index again, with other options."""
        await self._calls.index(request, timeout_s=timeout_s)

    async def version(self) -> Version:
        """Return the version of the server."""
        return await self._calls.version()

    async def _make_ready(self, ref: CollectionRef) -> None:
        info, made = await self.describe(ref), False
        if info is None:
            made = await self._create(ref)
            info = await self.describe(ref)
            if info is None:
                raise StoreUnavailable(f"collection {self.name(ref)} was created, but does not exist", code="NOT_FOUND")
        self._check(ref, info)
        if not made:
            await self._membership.check_is_own(ref)
        await self._index(ref, info)
        if TENANT_FIELD in info.payload_schema:
            self._with_tenant_field.add(ref)
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
        """Create a collection. Return ``False`` if it exists, but perhaps not because of this call."""
        settings = index_settings(self._shape, await self.version())
        request = creation_of(self.name(ref), ref.kind, self._shape, settings)
        put_pin(request.metadata, self._membership.pin(ref, "made"))
        if await self._is_bulk_mode_on():
            request.optimizers_config.indexing_threshold = held(settings.indexing_threshold_kb)
        try:
            await self._calls.create(request)
        except StoreError:
            # Another worker may have created it at the same time.
            if await self.describe(ref) is None:
                raise
            return False
        return True

    async def _is_bulk_mode_on(self) -> bool:
        for ref in await self.existing():
            info = await self.describe(ref)
            if info is not None and is_held(threshold_of(info)):
                return True
        return False

    async def _index(self, ref: CollectionRef, info: q.CollectionInfo) -> None:
        user_graphs, tenant = has_user_graphs(info.config), self._shape.tenant_index
        for field, index in self.indexes(ref).items():
            if field not in info.payload_schema:
                await self._calls.index(index_of(self.name(ref), field, index, user_graphs=user_graphs, tenant=tenant))

    def _check(self, ref: CollectionRef, info: q.CollectionInfo) -> None:
        problem = incompatibility(self.name(ref), info, self.kinds[ref.kind], self.dimension_of(ref))
        if problem is not None:
            raise unfit_error(ref, problem)
