"""The membership of collections in this deployment.

Members are the base collection of each kind, and the namespaces in the registry (`memory_worker.store.registry`) or the
settings. Other collections are left alone, even if their names look like namespaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable

from qdrant_client import grpc as q

from memory_worker.contract.errors import ConfigurationError, StoreError, StoreUnavailable
from memory_worker.store.collection_calls import CollectionCalls, Listing
from memory_worker.store.compatibility import alias_conflict, unfit_error
from memory_worker.store.operations import CollectionRef
from memory_worker.store.pins import Pin, pin_of, put_pin
from memory_worker.store.registry import Origin, Registry, key_of, origin_of, ref_of
from memory_worker.store.shape import CollectionShape
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)


class Membership:
    """The collections of this deployment, from the registry, the settings and the collections' own metadata."""

    def __init__(self, calls: CollectionCalls, shape: CollectionShape, registry: Registry) -> None:
        self._calls = calls
        self._shape = shape
        self._registry = registry
        self._origins: dict[CollectionRef, Origin] = {}  # of the collections that this process has registered
        self._with_uuids: set[CollectionRef] = set()  # those whose pins exclude integer ids

    def origin(self, ref: CollectionRef) -> Origin | None:
        """Return the origin of a collection that this process has registered."""
        return self._origins.get(ref)

    def pin(self, ref: CollectionRef, origin: Origin) -> Pin:
        """Return the pin that a collection of this deployment should have."""
        return Pin(self._registry.deployment, ref, origin)

    def may_have_integer_ids(self, ref: CollectionRef) -> bool:
        """Whether points may be under integer ids. ``False`` only if the pin has the origin ``made`` or ``rekeyed``.

        The registry is not enough: the collection may have been dropped and created again by others, without a pin.
        """
        return ref not in self._with_uuids

    async def register(self, ref: CollectionRef, info: q.CollectionInfo, *, made: bool = False) -> None:
        """Register a collection before the first write to it. ``made`` says that this process has created it."""
        origin = "made" if made else await self._origin_of(ref, info)
        await self._registry.add(key_of(ref), origin)
        self._origins[ref] = origin
        pin = self.pin(ref, origin)
        if origin != "adopted" and pin_of(info, ref) == pin:
            self._with_uuids.add(ref)
        else:
            self._with_uuids.discard(ref)
            await self._keep_pinned(ref, info, pin)

    async def mark_rekeyed(self, ref: CollectionRef, info: q.CollectionInfo) -> None:
        """Change the origin of an adopted collection to ``rekeyed``, in the registry and in its pin."""
        if await self._origin_of(ref, info) != "adopted":
            return
        await self._registry.add(key_of(ref), "rekeyed")
        await self._keep_pinned(ref, info, self.pin(ref, "rekeyed"))

    async def existing(self) -> list[CollectionRef]:
        """Return the collections of this deployment that exist, by name or as aliases. This changes nothing."""
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        return self._existing(registered, listing)

    async def reach(self) -> list[CollectionRef]:
        """Return the collections that a purge must reach. As `existing`, but a lost registry is restored first.

        Raises `ConfigurationError` if two names of this deployment refer to one collection.
        """
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        if any(key_of(ref) not in registered for ref in (*self._shape.bases(), *self._origins)):
            await self.restore()
            registered = await self._registry.names()
        self._check_distinct(registered, listing)
        return self._existing(registered, listing)

    async def restore(self) -> None:
        """Register again the collections that this process knows, and those whose pins name this deployment.

        The base collections come last, because a registry that has them counts as complete.
        """
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        found = {**await self._pinned(registered, listing), **self._origins}
        for ref in sorted(found, key=lambda ref: ref.namespace is None):
            if key_of(ref) not in registered:
                await self._registry.add(key_of(ref), found[ref])
                log_event(logger, logging.INFO, "collection_restored", collection=self._shape.name(ref))

    async def known(self) -> dict[CollectionRef, str]:
        """Return the collections of this deployment that exist, each with the name of the collection behind an alias.

        As `existing`, with those that a lost registry had. This changes nothing.
        """
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        refs = [*self._existing(registered, listing), *await self._pinned(registered, listing)]
        return {ref: listing.target(self._shape.name(ref)) for ref in refs}

    async def _pinned(self, registered: Container[str], listing: Listing) -> dict[CollectionRef, Origin]:
        """Return the collections whose pins name this deployment, although they are not registered."""
        found: dict[CollectionRef, Origin] = {}
        for ref in filter(None, map(self._shape.ref, listing.names)):
            if ref not in self._origins and key_of(ref) not in registered:
                pin = await self._pin_of(ref)
                if pin is not None and pin.deployment == self._registry.deployment:
                    found[ref] = pin.origin
        return found

    async def check_distinct(self) -> None:
        """Raise `ConfigurationError` if two names of this deployment refer to one collection."""
        self._check_distinct(*await asyncio.gather(self._registry.names(), self._calls.listing()))

    async def check_is_own(self, ref: CollectionRef) -> None:
        """Raise `unfit_error` if the name is an alias of another collection of this deployment."""
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        others = self._shape.bases() if ref.namespace is None else self._members(registered)
        conflict = alias_conflict(self._shape, ref, others, listing)
        if conflict is not None:
            raise unfit_error(ref, conflict)

    async def foreign(self) -> list[str]:
        """Return the collections and aliases that are named like namespaces of this deployment, but are not."""
        registered, listing = await asyncio.gather(self._registry.names(), self._calls.listing())
        own = {self._shape.name(ref) for ref in self._members(registered)}
        own |= {listing.target(name) for name in own}
        return sorted(name for name in listing.names - own if self._shape.ref(name) is not None)

    def _members(self, registered: Iterable[str]) -> list[CollectionRef]:
        """Return the collections of this deployment, existing or not. The base collections come first."""
        refs = (ref for key in registered if (ref := ref_of(key, self._shape.kinds)) is not None)
        return list(dict.fromkeys([*self._shape.bases(), *self._shape.configured(), *refs]))

    def _existing(self, registered: Iterable[str], listing: Listing) -> list[CollectionRef]:
        return [ref for ref in self._members(registered) if self._shape.name(ref) in listing.names]

    def _check_distinct(self, registered: Iterable[str], listing: Listing) -> None:
        members = self._members(registered)
        for position, ref in enumerate(members):
            conflict = alias_conflict(self._shape, ref, members[:position], listing)
            if conflict is not None:
                raise ConfigurationError(conflict)

    async def _origin_of(self, ref: CollectionRef, info: q.CollectionInfo) -> Origin:
        """Return the origin of a collection that existed before."""
        pin = pin_of(info, ref)
        if pin is not None and pin.deployment == self._registry.deployment:
            return pin.origin
        if await self._calls.has_metadata():  # then each collection that a worker made is pinned
            return "adopted"
        return origin_of((await self._registry.names()).get(key_of(ref)))

    async def _keep_pinned(self, ref: CollectionRef, info: q.CollectionInfo, pin: Pin) -> None:
        """Pin a collection. If that is not allowed, only the registry names it, which is enough to work."""
        if pin_of(info, ref) == pin or not await self._calls.has_metadata():
            return
        request = q.UpdateCollection(collection_name=self._shape.name(ref))
        put_pin(request.metadata, pin)
        try:
            await self._calls.update(request)
        except StoreError as error:
            log_event(logger, logging.WARNING, "collection_not_pinned", error=str(error))

    async def _pin_of(self, ref: CollectionRef) -> Pin | None:
        try:
            info = await self._calls.describe(self._shape.name(ref))
        except StoreUnavailable as error:
            if error.code == "PERMISSION_DENIED":  # this worker cannot have written to it
                return None
            raise
        return pin_of(info, ref) if info else None
