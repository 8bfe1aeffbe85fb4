"""Collections: made at start or at first use, checked once, and remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qdrant_client import grpc as q

from worker.errors import ConfigurationError, StoreError, StoreUnavailable
from worker.kinds import KINDS, IndexType, KindName, namespace_of
from worker.store.operations import CollectionRef
from worker.store.rpc import QdrantRpc

_INDEX_TYPES: dict[IndexType, q.FieldType.ValueType] = {
    "integer": q.FieldType.FieldTypeInteger,
    "keyword": q.FieldType.FieldTypeKeyword,
    "bool": q.FieldType.FieldTypeBool,
}
_INT8_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class CollectionShape:
    """How new collections are made. Of existing ones only dimension and distance are checked."""

    memories: str = "user_memories"
    documents: str = "user_documents"
    dimension: int = 1024
    quantize_int8: bool = False
    hnsw_m: int = 16
    hnsw_ef_construct: int = 100
    on_disk: bool = False
    shard_number: int = 1
    replication_factor: int = 1
    write_consistency_factor: int = 1

    def base(self, kind: KindName) -> str:
        """Return the collection of a kind, without a namespace."""
        return self.memories if kind == "memory" else self.documents


class Collections:
    """The collections of this worker, by kind and namespace."""

    def __init__(self, rpc: QdrantRpc, shape: CollectionShape) -> None:
        self._rpc = rpc
        self._shape = shape
        self._ready: set[CollectionRef] = set()
        self._making = asyncio.Lock()

    @property
    def dimension(self) -> int:
        """The dimension of all vectors."""
        return self._shape.dimension

    def name(self, ref: CollectionRef) -> str:
        """Return the name of a collection in Qdrant."""
        base = self._shape.base(ref.kind)
        return base if ref.namespace is None else f"{base}_{ref.namespace}"

    async def ensure(self, ref: CollectionRef) -> str:
        """Make the collection and its payload indexes unless they exist; return its name.

        Raises `ConfigurationError` for a collection of another dimension or distance, `StoreUnavailable`.
        """
        name = self.name(ref)
        if ref not in self._ready:
            async with self._making:
                if ref not in self._ready:
                    await self._make(ref)
                    self._ready.add(ref)
        return name

    async def exists(self, ref: CollectionRef) -> bool:
        """Say whether the collection is there."""
        return ref in self._ready or await self.describe(ref) is not None

    def forget(self, ref: CollectionRef) -> None:
        """Look again before the next use: somebody may have dropped the collection."""
        self._ready.discard(ref)

    async def drop(self, ref: CollectionRef) -> None:
        """Delete a collection with all its points."""
        name = self.name(ref)
        self.forget(ref)
        await self._rpc.call(f"deleting {name}", self._rpc.delete_collection, q.DeleteCollection(collection_name=name))

    async def existing(self) -> list[CollectionRef]:
        """Return those of our collections that exist, every namespace among them."""
        answer = await self._rpc.call("listing collections", self._rpc.list_collections, q.ListCollectionsRequest())
        found = []
        for description in answer.collections:
            ref = self._ref_of(description.name)
            if ref is not None:
                found.append(ref)
        return found

    async def describe(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """Return Qdrant's own description of a collection; ``None`` when it does not exist."""
        name = self.name(ref)
        request = q.GetCollectionInfoRequest(collection_name=name)
        try:
            answer = await self._rpc.call(f"describing {name}", self._rpc.get_collection, request)
        except StoreUnavailable as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return answer.result

    async def checked(self, ref: CollectionRef) -> q.CollectionInfo | None:
        """Describe a collection without making it; raises `ConfigurationError` for a wrong dimension or distance."""
        info = await self.describe(ref)
        if info is not None:
            self._check(self.name(ref), info)
        return info

    def _ref_of(self, name: str) -> CollectionRef | None:
        if name == self._shape.documents:
            return CollectionRef("document")
        if name == self._shape.memories:
            return CollectionRef("memory")
        namespace = namespace_of(name, self._shape.memories)
        return CollectionRef("memory", namespace) if namespace else None

    async def _make(self, ref: CollectionRef) -> None:
        name = self.name(ref)
        info = await self.checked(ref)
        if info is None:
            await self._create(ref)
            info = await self.checked(ref)
            if info is None:
                raise StoreUnavailable(f"collection {name} was created, but is not there", code="NOT_FOUND")
        for field, index in KINDS[ref.kind].indexes.items():
            if field not in info.payload_schema:
                await self._create_index(name, field, index)

    async def _create(self, ref: CollectionRef) -> None:
        name, shape = self.name(ref), self._shape
        vectors = q.VectorParams(size=shape.dimension, distance=q.Distance.Cosine, on_disk=shape.on_disk)
        request = q.CreateCollection(
            collection_name=name,
            vectors_config=q.VectorsConfig(params=vectors),
            hnsw_config=q.HnswConfigDiff(m=shape.hnsw_m, ef_construct=shape.hnsw_ef_construct, on_disk=shape.on_disk),
            shard_number=shape.shard_number,
            replication_factor=shape.replication_factor,
            write_consistency_factor=shape.write_consistency_factor,
        )
        if shape.quantize_int8:
            request.quantization_config.scalar.CopyFrom(
                q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=_INT8_QUANTILE, always_ram=True)
            )
        try:
            await self._rpc.call(f"creating {name}", self._rpc.create_collection, request)
        except StoreError:
            # Another worker may have been faster; what counts is whether the collection is there now.
            if await self.describe(ref) is None:
                raise

    async def _create_index(self, name: str, field: str, index: IndexType) -> None:
        request = q.CreateFieldIndexCollection(
            collection_name=name, wait=True, field_name=field, field_type=_INDEX_TYPES[index]
        )
        await self._rpc.call(f"indexing {field} of {name}", self._rpc.create_index, request)

    def _check(self, name: str, info: q.CollectionInfo) -> None:
        vectors = info.config.params.vectors_config
        if vectors.WhichOneof("config") != "params":
            raise ConfigurationError(f"collection {name} has named vectors; one unnamed vector is expected")
        if vectors.params.size != self._shape.dimension:
            raise ConfigurationError(
                f"collection {name} has dimension {vectors.params.size}, "
                f"but QDRANT_VECTOR_DIMENSION is {self._shape.dimension}"
            )
        if vectors.params.distance != q.Distance.Cosine:
            distance = q.Distance.Name(vectors.params.distance)
            raise ConfigurationError(f"collection {name} measures {distance} distance; Cosine is expected")
