"""Collections: made at start or at first use, checked once, and remembered.

Graphs of users. In a collection without a graph over all points (``m = 0``) but with links among those of a payload
value (``payload_m``), Qdrant builds a graph for each value that is frequent enough, of each field with an index. An
integer index will do, so ``user_id`` does, and points that the app wrote itself are in these graphs. But the values of
other fields would get graphs too, ``active: true`` one over nearly all points, and ranges of users as well: more work
than the graph that was to be spared. So there the indexes are made such that only single users get graphs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from qdrant_client import grpc as q

from memory_worker.errors import ConfigurationError, StoreError, StoreUnavailable
from memory_worker.kinds import KINDS, TENANT_FIELD, USER_ID_FIELD, IndexType, KindName, namespace_of
from memory_worker.store.indexing import is_held, threshold_of
from memory_worker.store.operations import CollectionRef
from memory_worker.store.rpc import QdrantRpc

_INDEX_TYPES: dict[IndexType, q.FieldType.ValueType] = {
    "integer": q.FieldType.FieldTypeInteger,
    "keyword": q.FieldType.FieldTypeKeyword,
    "bool": q.FieldType.FieldTypeBool,
}
_INDEX_PARAMS: dict[IndexType, str] = {
    "integer": "integer_index_params",
    "keyword": "keyword_index_params",
    "bool": "bool_index_params",
}
_INT8_QUANTILE = 0.99

UPDATE_TIMEOUT_S = 60.0
"""Qdrant ends what its optimizers are at before it changes a collection's settings."""

DROP_TIMEOUT_S = 300.0
"""A collection of a million points is some gigabytes of files."""


@dataclass(frozen=True, slots=True)
class CollectionShape:
    """How new collections are made. Of existing ones only dimension and distance are checked."""

    memories: str = "user_memories"
    documents: str = "user_documents"
    dimension: int = 1024
    quantize_int8: bool = False
    hnsw_m: int = 16
    hnsw_payload_m: int | None = None
    hnsw_ef_construct: int = 100
    tenant_index: bool = False
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

    @property
    def tenants(self) -> bool:
        """Whether points written name their user as a tenant."""
        return self._shape.tenant_index

    @property
    def quantized(self) -> bool:
        """Whether vectors are meant to be quantized, so that searches must make up for it."""
        return self._shape.quantize_int8

    def indexes(self, ref: CollectionRef) -> Mapping[str, IndexType]:
        """Return the payload fields that are indexed, and how."""
        fields = KINDS[ref.kind].indexes
        return MappingProxyType({**fields, TENANT_FIELD: "keyword"}) if self.tenants else fields

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
        request = q.DeleteCollection(collection_name=name, timeout=int(DROP_TIMEOUT_S))
        await self._rpc.call(f"deleting {name}", self._rpc.delete_collection, request, timeout_s=DROP_TIMEOUT_S)

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

    async def set_indexing_threshold(self, ref: CollectionRef, threshold_kb: int) -> None:
        """Have a collection index segments of more than ``threshold_kb``."""
        name = self.name(ref)
        request = q.UpdateCollection(collection_name=name, timeout=int(UPDATE_TIMEOUT_S))
        request.optimizers_config.indexing_threshold = threshold_kb
        await self._rpc.call(f"updating {name}", self._rpc.update_collection, request, timeout_s=UPDATE_TIMEOUT_S)

    def unlike_settings(self, info: q.CollectionInfo) -> list[str]:
        """Return what the settings ask for by name and a collection has not: it was made before, or by others."""
        return list(_unlike(self._shape, info.config))

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
        for field, index in self.indexes(ref).items():
            if field not in info.payload_schema:
                await self._create_index(name, field, index, graphs_of_users=_has_graphs_of_users(info.config))

    async def _create(self, ref: CollectionRef) -> None:
        name, shape = self.name(ref), self._shape
        vectors = q.VectorParams(size=shape.dimension, distance=q.Distance.Cosine, on_disk=shape.on_disk)
        request = q.CreateCollection(
            collection_name=name,
            vectors_config=q.VectorsConfig(params=vectors),
            hnsw_config=q.HnswConfigDiff(
                m=shape.hnsw_m,
                payload_m=shape.hnsw_payload_m,
                ef_construct=shape.hnsw_ef_construct,
                on_disk=shape.on_disk,
            ),
            shard_number=shape.shard_number,
            replication_factor=shape.replication_factor,
            write_consistency_factor=shape.write_consistency_factor,
        )
        if shape.quantize_int8:
            request.quantization_config.scalar.CopyFrom(
                q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=_INT8_QUANTILE, always_ram=True)
            )
        held = await self._held_threshold()
        if held is not None:
            request.optimizers_config.indexing_threshold = held
        try:
            await self._rpc.call(f"creating {name}", self._rpc.create_collection, request)
        except StoreError:
            # Another worker may have been faster; what counts is whether the collection is there now.
            if await self.describe(ref) is None:
                raise

    async def _held_threshold(self) -> int | None:
        """Return the threshold of a collection in bulk mode: one that is made meanwhile is part of the same import."""
        for ref in await self.existing():
            info = await self.describe(ref)
            if info is not None and is_held(threshold_of(info)):
                return threshold_of(info)
        return None

    async def _create_index(self, name: str, field: str, index: IndexType, *, graphs_of_users: bool) -> None:
        request = q.CreateFieldIndexCollection(
            collection_name=name, wait=True, field_name=field, field_type=_INDEX_TYPES[index]
        )
        options = _index_options(field, index, graphs_of_users=graphs_of_users)
        if options:
            params = getattr(request.field_index_params, _INDEX_PARAMS[index])
            for option, value in options.items():
                setattr(params, option, value)
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


def _has_graphs_of_users(config: q.CollectionConfig) -> bool:
    return config.hnsw_config.m == 0 and config.hnsw_config.payload_m > 0


def _index_options(field: str, index: IndexType, *, graphs_of_users: bool) -> dict[str, Any]:
    """Return what is asked of an index beyond its type."""
    if field == TENANT_FIELD:
        # Points are laid out by it. Those without it, the app's own, would lack in its graphs: ``user_id`` has them.
        return {"is_tenant": True, "enable_hnsw": False}
    if not graphs_of_users:
        return {}
    if field == USER_ID_FIELD:
        return {"lookup": True, "range": False}
    ranges = {"lookup": True, "range": True} if index == "integer" else {}
    return {**ranges, "enable_hnsw": False}


def _unlike(shape: CollectionShape, config: q.CollectionConfig) -> Iterator[str]:
    hnsw, default = config.hnsw_config, CollectionShape()
    payload_m = hnsw.payload_m if hnsw.HasField("payload_m") else None
    for variable, asked, usual, found in (
        ("QDRANT_HNSW_M", shape.hnsw_m, default.hnsw_m, hnsw.m),
        ("QDRANT_HNSW_PAYLOAD_M", shape.hnsw_payload_m, default.hnsw_payload_m, payload_m),
        ("QDRANT_HNSW_EF_CONSTRUCT", shape.hnsw_ef_construct, default.hnsw_ef_construct, hnsw.ef_construct),
    ):
        if asked not in (usual, found):
            yield f"{variable} {asked}, the collection has {'none' if found is None else found}"
    if shape.quantize_int8 and config.quantization_config.WhichOneof("quantization") != "scalar":
        yield "QDRANT_QUANTIZATION int8, the collection has none"
