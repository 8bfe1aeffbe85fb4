"""The registry of collections: it names the collections that belong to this deployment.

A collection belongs to the deployment because it is in the registry, not because of its name.
`memory_worker.queue.registry` keeps the registry in Redis.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Literal, Protocol

from memory_worker.contract.kinds import KindName
from memory_worker.store.operations import CollectionRef

Origin = Literal["made", "adopted", "rekeyed"]
"""``made``: a worker created the collection. ``adopted``: it existed before, and may have points under integer ids that
older versions of the main app wrote. ``rekeyed``: it existed before, and `memory_worker.repair.rekey` has found no
integer ids left.
"""

_SEPARATOR = ":"


class Registry(Protocol):
    """The origin of each collection, by the key from `key_of`."""

    @property
    def deployment(self) -> str:
        """The name of this deployment, which is the ``QUEUE_PREFIX``."""

    async def names(self) -> Mapping[str, str]:
        """Return the origin of each registered collection, by key."""

    async def add(self, key: str, origin: str) -> None:
        """Register a collection, or change the origin of one that is registered."""


class MemoryRegistry:
    """A registry in memory, for tests and for tools with their own collections."""

    def __init__(self, deployment: str = "mw") -> None:
        self.deployment = deployment
        self._names: dict[str, str] = {}

    async def names(self) -> Mapping[str, str]:
        """Return the origin of each registered collection, by key."""
        return dict(self._names)

    async def add(self, key: str, origin: str) -> None:
        """Register a collection, or change the origin of one that is registered."""
        self._names[key] = origin


def key_of(ref: CollectionRef) -> str:
    """Return the key of a collection in the registry: ``memory``, ``memory:feedback_positive``."""
    return ref.kind if ref.namespace is None else f"{ref.kind}{_SEPARATOR}{ref.namespace}"


def ref_of(key: str, kinds: Container[KindName]) -> CollectionRef | None:
    """Return the collection of a key, or ``None`` if its kind is not one of ``kinds``."""
    name, separator, namespace = key.partition(_SEPARATOR)
    return CollectionRef(name, namespace if separator else None) if name in kinds else None


def origin_of(value: object) -> Origin:
    """Return a stored origin. Unknown values count as ``adopted``, the origin about which the least is known."""
    return "made" if value == "made" else "rekeyed" if value == "rekeyed" else "adopted"
