"""Calls to Qdrant that read, create, change and delete collections, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from qdrant_client import grpc as q

from memory_worker.contract.errors import StoreUnavailable
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.server_version import FIRST_WITH_METADATA, Version, version_of

UPDATE_TIMEOUT_S = 60.0
"""Before Qdrant changes the settings of a collection, it waits for running optimizers."""

DROP_TIMEOUT_S = 300.0
"""A collection of a million points has several gigabytes of files."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The names of all collections, and the collection of each alias. An alias hides a collection of the same name."""

    collections: frozenset[str]
    aliases: Mapping[str, str]

    @property
    def names(self) -> frozenset[str]:
        """All names of collections, including aliases."""
        return self.collections | self.aliases.keys()

    def target(self, name: str) -> str:
        """Return the collection that a name or an alias refers to."""
        return self.aliases.get(name, name)


class CollectionCalls:
    """Calls to Qdrant about collections. Names may be aliases. All methods raise `StoreError`."""

    def __init__(self, rpc: QdrantRpc) -> None:
        self._rpc = rpc
        self._has_metadata: bool | None = None

    async def describe(self, name: str) -> q.CollectionInfo | None:
        """Return Qdrant's description of a collection, or ``None`` if it does not exist."""
        request = q.GetCollectionInfoRequest(collection_name=name)
        try:
            answer = await self._rpc.call(f"describing {name}", self._rpc.get_collection, request)
        except StoreUnavailable as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return answer.result

    async def listing(self) -> Listing:
        """Return the names of all collections, and all aliases."""
        collections, aliases = await asyncio.gather(
            self._rpc.call("listing collections", self._rpc.list_collections, q.ListCollectionsRequest()),
            self._rpc.call("listing aliases", self._rpc.list_aliases, q.ListAliasesRequest()),
        )
        return Listing(
            frozenset(found.name for found in collections.collections),
            {found.alias_name: found.collection_name for found in aliases.aliases},
        )

    async def create(self, request: q.CreateCollection) -> None:
        """Create a collection."""
        await self._rpc.call(f"creating {request.collection_name}", self._rpc.create_collection, request)

    async def update(self, request: q.UpdateCollection) -> None:
        """Change the settings of a collection."""
        request.timeout = int(UPDATE_TIMEOUT_S)
        doing = f"updating {request.collection_name}"
        await self._rpc.call(doing, self._rpc.update_collection, request, timeout_s=UPDATE_TIMEOUT_S)

    async def index(self, request: q.CreateFieldIndexCollection, *, timeout_s: float | None = None) -> None:
        """Create a payload index, or create it again with other options."""
        doing = f"indexing {request.field_name} of {request.collection_name}"
        await self._rpc.call(doing, self._rpc.create_index, request, timeout_s=timeout_s)

    async def drop(self, name: str) -> None:
        """Delete a collection with all its points. If ``name`` is an alias, nothing is deleted."""
        request = q.DeleteCollection(collection_name=name, timeout=int(DROP_TIMEOUT_S))
        await self._rpc.call(f"deleting {name}", self._rpc.delete_collection, request, timeout_s=DROP_TIMEOUT_S)

    async def has_metadata(self) -> bool:
        """Say whether the server stores metadata of collections. The server is asked only once."""
        if self._has_metadata is None:
            self._has_metadata = await self.version() >= FIRST_WITH_METADATA
        return self._has_metadata

    async def version(self) -> Version:
        """Return the version of the server. It may change while a worker runs."""
        answer = await self._rpc.call("health check", self._rpc.health_check, q.HealthCheckRequest())
        return version_of(answer.version)
