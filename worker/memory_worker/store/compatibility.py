"""Whether a collection can store the vectors of this deployment, and whether two names are one collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from qdrant_client import grpc as q

from memory_worker.contract.errors import CollectionUnfit, ConfigurationError
from memory_worker.contract.kinds import Distance, Kind
from memory_worker.store.collection_calls import Listing
from memory_worker.store.operations import CollectionRef
from memory_worker.store.shape import CollectionShape

DISTANCES: Mapping[Distance, q.Distance.ValueType] = MappingProxyType(
    {
        "cosine": q.Distance.Cosine,
        "dot": q.Distance.Dot,
        "euclid": q.Distance.Euclid,
        "manhattan": q.Distance.Manhattan,
    }
)


def incompatibility(name: str, info: q.CollectionInfo, kind: Kind, dimension: int) -> str | None:
    """Return why a collection cannot store vectors of a kind, which have ``dimension``, or ``None`` if it can."""
    vectors = info.config.params.vectors_config
    if vectors.WhichOneof("config") != "params":
        return f"collection {name} has named vectors; one unnamed vector is expected"
    if vectors.params.size != dimension:
        return f"collection {name} has dimension {vectors.params.size}, but {_dimension_setting(kind)} is {dimension}"
    wanted = DISTANCES[kind.distance]
    if vectors.params.distance != wanted:
        distance = q.Distance.Name(vectors.params.distance)
        return f"collection {name} measures {distance} distance; {q.Distance.Name(wanted)} is expected"
    return None


def _dimension_setting(kind: Kind) -> str:
    return "QDRANT_VECTOR_DIMENSION" if kind.dimension is None else f"{kind.name}.dimension in KINDS_FILE"


def needs_indexes(info: q.CollectionInfo) -> bool:
    """Say whether a collection refuses updates by a filter on a field without an index (strict mode)."""
    strict = info.config.strict_mode_config
    return strict.enabled and strict.HasField("unindexed_filtering_update") and not strict.unindexed_filtering_update


def alias_conflict(
    shape: CollectionShape, ref: CollectionRef, others: Iterable[CollectionRef], listing: Listing
) -> str | None:
    """Describe the alias that makes ``ref`` and one of ``others`` the same collection; ``None`` if there is none."""
    name = shape.name(ref)
    target = listing.target(name)
    for other in others:
        other_name = shape.name(other)
        if other != ref and listing.target(other_name) == target:
            return f"{other_name} and {name} are one collection, {target}: remove the alias that makes them so"
    return None


def unfit_error(ref: CollectionRef, problem: str) -> Exception:
    """Return the error for a collection that cannot be used.

    A namespace concerns only the jobs that name it, so those jobs are refused. A base collection concerns all jobs, so
    it is a configuration error, and no job is to blame.
    """
    return ConfigurationError(problem) if ref.namespace is None else CollectionUnfit(problem)
