"""The names of a deployment's collections, and the settings of new collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memory_worker.contract.kinds import KINDS, MEMORY, IndexType, KindName, Kinds, namespace_of
from memory_worker.store.operations import CollectionRef


@dataclass(frozen=True, slots=True)
class CollectionShape:
    """The settings of new collections. Of existing collections only dimension and distance are checked.

    ``kinds`` are those of the deployment. ``dimension`` is that of kinds without their own. ``namespaces`` of memories
    belong to the deployment without being registered, if their collections exist. ``hnsw_m``, ``hnsw_payload_m``
    and ``indexing_threshold_kb`` ``None`` depend on the server (`memory_worker.store.index_settings`).
    """

    kinds: Kinds = field(default_factory=lambda: KINDS)
    namespaces: tuple[str, ...] = ()
    dimension: int = 1024
    quantize_int8: bool = False
    hnsw_m: int | None = None
    hnsw_payload_m: int | None = None
    hnsw_ef_construct: int = 100
    indexing_threshold_kb: int | None = None
    tenant_index: bool = True
    on_disk: bool = False
    shard_number: int = 1
    replication_factor: int = 1
    write_consistency_factor: int = 1

    def base(self, kind: KindName) -> str:
        """Return the name of the base collection of a kind."""
        return self.kinds[kind].collection

    def dimension_of(self, kind: KindName) -> int:
        """Return the dimension of a kind's vectors."""
        return self.kinds[kind].dimension or self.dimension

    def name(self, ref: CollectionRef) -> str:
        """Return the name of a collection in Qdrant."""
        base = self.base(ref.kind)
        return base if ref.namespace is None else f"{base}_{ref.namespace}"

    def ref(self, name: str) -> CollectionRef | None:
        """Return the kind and the namespace that fit a name, or ``None`` if it cannot belong to this deployment."""
        for base in self.bases():
            if name == self.name(base):
                return base
        for kind in self.kinds.values():
            namespace = namespace_of(name, self.base(kind.name)) if kind.namespaced else None
            if namespace:
                return CollectionRef(kind.name, namespace)
        return None

    def bases(self) -> list[CollectionRef]:
        """Return the base collections, which every deployment has."""
        return [CollectionRef(kind) for kind in self.kinds]

    def configured(self) -> list[CollectionRef]:
        """Return the namespaces from the settings."""
        if MEMORY.name not in self.kinds or not self.kinds[MEMORY.name].namespaced:
            return []
        return [CollectionRef(MEMORY.name, namespace) for namespace in self.namespaces]

    def indexes(self, kind: KindName) -> Mapping[str, IndexType]:
        """Return the type of each payload index."""
        return self.kinds[kind].indexes
