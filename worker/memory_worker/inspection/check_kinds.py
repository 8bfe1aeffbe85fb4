"""The checks of kinds: which are in force, whether the published ones are the same, and what waits for others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from qdrant_client import grpc as q

from memory_worker.contract import Limits
from memory_worker.contract.kind_specs import spec_of
from memory_worker.contract.kinds import KINDS, IndexType, Kinds
from memory_worker.inspection.checks import Check
from memory_worker.inspection.status import QueueStatus
from memory_worker.store.registry import ref_of


def kinds_in_force(limits: Limits) -> Iterator[Check]:
    """Describe the kinds of the settings, one by one."""
    for name, kind in limits.kinds.items():
        namespaces = ", namespaces" if kind.namespaced else ""
        seen = f"{kind.collection}: {limits.dimension_of(kind)} dimensions, {kind.distance}, {kind.user_ids} user ids"
        yield Check(f"kind {name}", "ok", f"{seen}{namespaces}")


def published_kinds(own: Limits, published: Limits | None) -> Check:
    """Check that the published kinds, by which producers check their jobs, are those of the settings."""
    if published is None or published.kinds is KINDS:
        return Check("published kinds", "ok", "none yet; a worker publishes them when it starts")
    differences = list(_differences(own, published))
    if differences:
        return Check(
            "published kinds",
            "warning",
            "; ".join(differences),
            "Producers check jobs by the published kinds. Give all workers the same settings and KINDS_FILE, then "
            "restart them. Each publishes its kinds when it starts.",
        )
    return Check("published kinds", "ok", "the same as in these settings")


def held_partitions(queue: QueueStatus) -> Check:
    """Check that no partition waits for a worker with another version or another kind."""
    held = [state for state in queue.partitions if state.held]
    if not held:
        return Check("held partitions", "ok", "none")
    needs = ", ".join(sorted({state.needs or "another worker" for state in held}))
    return Check(
        "held partitions",
        "warning",
        f"{len(held)} of {queue.partition_count} wait for a worker with {needs}",
        "Update the workers, or add the kind to the KINDS_FILE of all workers and restart them.",
    )


def unserved_collections(registered: Collection[str], kinds: Kinds, registry_key: str) -> Check | None:
    """Check that each registered collection has a kind. Without one, no job and no purge reaches its points."""
    unserved = sorted(key for key in registered if ref_of(key, kinds) is None)
    if not unserved:
        return None
    return Check(
        "kinds of collections",
        "warning",
        f"registered, but their kinds are not in the settings: {', '.join(unserved)}",
        "No purge reaches their points. Add the kinds to KINDS_FILE, or delete the collections and their fields of "
        f"{registry_key} in Redis.",
    )


def check_indexes(
    collection: str, wanted: Mapping[str, IndexType], found: Mapping[str, q.PayloadSchemaInfo]
) -> Check | None:
    """Check that a collection has the payload indexes of its kind."""
    missing = sorted(set(wanted) - set(found))
    if missing:
        return Check(
            f"collection {collection}",
            "warning",
            f"no index on {', '.join(missing)}",
            "A worker creates the index when it starts. Until then, searches that filter by this field are slow.",
        )
    types = {field: q.PayloadSchemaType.Name(found[field].data_type).lower() for field in wanted}
    wrong = [f"{field} ({types[field]}, not {index})" for field, index in wanted.items() if types[field] != index]
    if wrong:
        return Check(
            f"collection {collection}",
            "warning",
            f"index of another type on {', '.join(wrong)}",
            "Searches cannot use it. Delete the index in Qdrant and restart a worker, which creates the right one.",
        )
    return None


def _differences(own: Limits, published: Limits) -> Iterator[str]:
    for name in sorted(own.kinds.keys() | published.kinds.keys()):
        if name not in published.kinds:
            yield f"{name} is not published"
        elif name not in own.kinds:
            yield f"{name} is published, but not in these settings"
        else:
            yield from _differing(name, _values(own, name), _values(published, name))


def _differing(name: str, own: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[str]:
    for field, here in own.items():
        there = published[field]
        if here != there:
            values = "differs" if isinstance(here, dict) else f"is {there}, but {here} in these settings"
            yield f"{name}.{field} {values}"


def _values(limits: Limits, name: str) -> dict[str, Any]:
    """Return the values of a kind by their names in ``KINDS_FILE``."""
    kind = limits.kinds[name]
    return {**msgspec.structs.asdict(spec_of(kind)), "dimension": limits.dimension_of(kind)}
