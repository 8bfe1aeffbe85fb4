"""Tuning: the index settings of existing collections become those of new ones.

A collection keeps the settings that it was created with, by an older worker, on an older server or by the app. A plan
says which of them differ, and has the requests that change them. Points and vectors are not written again by the
worker: Qdrant rebuilds its segments in the background, while reads and writes go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from qdrant_client import grpc as q

from memory_worker.contract.kinds import TENANT_FIELD, USER_ID_FIELD, IndexType
from memory_worker.store.collections import Collections
from memory_worker.store.creation import INDEX_PARAMS, INT8, TENANT_OPTIONS, has_user_graphs, index_of, index_options
from memory_worker.store.index_settings import DEFAULT_M, IndexSettings, index_settings
from memory_worker.store.indexing import held, is_held, restored, threshold_of
from memory_worker.store.operations import CollectionRef
from memory_worker.store.server_version import FIRST_WITH_RELIABLE_USER_GRAPHS, Version
from memory_worker.store.shape import CollectionShape

INDEX_TIMEOUT_S = 600.0
"""Qdrant reads the payloads of all points to create an index again."""

_DEFAULTS = CollectionShape()
_SCHEMA_TYPES: dict[IndexType, q.PayloadSchemaType.ValueType] = {
    "integer": q.PayloadSchemaType.Integer,
    "keyword": q.PayloadSchemaType.Keyword,
    "bool": q.PayloadSchemaType.Bool,
}


class Difference(msgspec.Struct, frozen=True):
    """A setting of a collection that differs from that of new collections.

    ``asked`` says that the setting is set in the environment. Otherwise it is a default.
    """

    setting: str
    found: str
    wanted: str
    asked: bool = False


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """The differences of a collection, and the requests that remove them.

    ``finds_too_little`` says that searches may miss points until the collection is tuned.
    """

    name: str
    points: int
    differences: list[Difference] = field(default_factory=list)
    indexes: list[q.CreateFieldIndexCollection] = field(default_factory=list)
    update: q.UpdateCollection | None = None
    finds_too_little: bool = False

    @property
    def rebuilds(self) -> bool:
        """Whether Qdrant rebuilds the segments that have graphs."""
        return self.update is not None and (self.update.HasField("hnsw_config") or self._quantizes)

    @property
    def _quantizes(self) -> bool:
        return self.update is not None and self.update.HasField("quantization_config")


class Tuner:
    """Plans and applies the tuning of collections. All methods raise `StoreError`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def plans(self) -> list[TuningPlan]:
        """Return a plan for each collection of this deployment, sorted by name. This changes nothing."""
        found = [await self.plan(ref) for ref in await self._collections.existing()]
        return sorted((plan for plan in found if plan is not None), key=lambda plan: plan.name)

    async def plan(self, ref: CollectionRef) -> TuningPlan | None:
        """Return the plan of a collection, or ``None`` if it does not exist."""
        info = await self._collections.describe(ref)
        if info is None:
            return None
        return plan_of(self._collections.shape, ref, info, await self._collections.version())

    async def apply(self, ref: CollectionRef) -> TuningPlan | None:
        """Change the settings that differ, and return the plan that was applied.

        Each request may be repeated. The indexes come first, so that segments are rebuilt with them.
        """
        plan = await self.plan(ref)
        if plan is None:
            return None
        for request in plan.indexes:
            await self._collections.index_again(request, timeout_s=INDEX_TIMEOUT_S)
        if plan.update is not None:
            await self._collections.update(plan.update)
        return plan


def plan_of(shape: CollectionShape, ref: CollectionRef, info: q.CollectionInfo, version: Version) -> TuningPlan:
    """Return what to change in a collection of ``ref`` with this description, on a server of this version."""
    name, settings = shape.name(ref), index_settings(shape, version)
    unreliable = has_user_graphs(info.config) and version < FIRST_WITH_RELIABLE_USER_GRAPHS
    update = q.UpdateCollection(collection_name=name)
    differences = [
        *_graphs(shape, settings, info.config.hnsw_config, update, unreliable=unreliable),
        *_quantization(shape, info.config, update),
        *_threshold(shape, settings, info, update),
    ]
    after = q.CollectionConfig(hnsw_config=info.config.hnsw_config)
    after.hnsw_config.MergeFrom(update.hnsw_config)
    indexes, of_indexes = _indexes(shape, ref, info, user_graphs=has_user_graphs(after), tenant=settings.tenant_index)
    changes = any(update.HasField(part) for part in ("hnsw_config", "optimizers_config", "quantization_config"))
    return TuningPlan(
        name=name,
        points=info.points_count,
        differences=[*differences, *of_indexes],
        indexes=indexes,
        update=update if changes else None,
        finds_too_little=unreliable and update.HasField("hnsw_config"),
    )


def _graphs(
    shape: CollectionShape,
    settings: IndexSettings,
    found: q.HnswConfigDiff,
    update: q.UpdateCollection,
    *,
    unreliable: bool,
) -> Iterator[Difference]:
    """Yield what differs of the graphs. Where the server decides, only unreliable graphs are replaced."""
    wanted = {
        "m": DEFAULT_M if settings.m is None and unreliable else settings.m,
        "payload_m": settings.payload_m,
        "full_scan_threshold": settings.full_scan_threshold_kb,
        "ef_construct": None if shape.hnsw_ef_construct == _DEFAULTS.hnsw_ef_construct else shape.hnsw_ef_construct,
    }
    asked = {"m": shape.hnsw_m, "payload_m": shape.hnsw_payload_m, "full_scan_threshold": shape.indexing_threshold_kb}
    has_by_option = {"payload_m": found.payload_m if found.HasField("payload_m") else None}
    for option, value in wanted.items():
        has = has_by_option.get(option, getattr(found, option))
        if value is not None and value != has:
            setattr(update.hnsw_config, option, value)
            setting = "full scan, kB" if option == "full_scan_threshold" else f"QDRANT_HNSW_{option.upper()}"
            found_text = "none" if has is None else f"{has:,}"
            yield Difference(setting, found_text, f"{value:,}", asked=asked.get(option, True) is not None)


def _quantization(
    shape: CollectionShape, found: q.CollectionConfig, update: q.UpdateCollection
) -> Iterator[Difference]:
    if shape.quantize_int8 and found.quantization_config.WhichOneof("quantization") != "scalar":
        update.quantization_config.scalar.CopyFrom(INT8)
        yield Difference("QDRANT_QUANTIZATION", "none", "int8", asked=True)


def _threshold(
    shape: CollectionShape, settings: IndexSettings, info: q.CollectionInfo, update: q.UpdateCollection
) -> Iterator[Difference]:
    """Yield whether the threshold differs. In bulk mode, that is the threshold that ends it."""
    found, wanted = threshold_of(info), settings.indexing_threshold_kb
    if restored(found) != wanted:
        update.optimizers_config.indexing_threshold = held(wanted) if is_held(found) else wanted
        asked = shape.indexing_threshold_kb is not None
        yield Difference("QDRANT_INDEXING_THRESHOLD_KB", f"{restored(found):,}", f"{wanted:,}", asked=asked)


def _indexes(
    shape: CollectionShape, ref: CollectionRef, info: q.CollectionInfo, *, user_graphs: bool, tenant: bool
) -> tuple[list[q.CreateFieldIndexCollection], list[Difference]]:
    """Return the indexes to create again, and what differs of them. A missing index is created by a worker."""
    tenant = tenant and TENANT_FIELD not in info.payload_schema
    indexes, differences = [], []
    for name, index in shape.indexes(ref.kind).items():
        found = info.payload_schema.get(name)
        if found is None or found.data_type != _SCHEMA_TYPES[index]:
            continue
        wanted = index_options(name, index, user_graphs=user_graphs, tenant=tenant)
        differing = list(_differing_options(name, index, found, wanted, user_graphs=user_graphs))
        if differing:
            indexes.append(index_of(shape.name(ref), name, index, user_graphs=user_graphs, tenant=tenant))
            differences += differing
    return indexes, differences


def _differing_options(
    name: str, index: IndexType, found: q.PayloadSchemaInfo, wanted: dict[str, bool], *, user_graphs: bool
) -> Iterator[Difference]:
    """Yield the options that matter: the tenant index, and those by which Qdrant builds graphs."""
    options = getattr(found.params, INDEX_PARAMS[index])
    tenant = TENANT_OPTIONS.get(index)
    if name == USER_ID_FIELD and tenant in wanted and not getattr(options, tenant):
        yield Difference("QDRANT_TENANT_INDEX", "false", "true")
    graphs = "range" if name == USER_ID_FIELD else "enable_hnsw"
    if user_graphs and graphs in wanted and (not options.HasField(graphs) or getattr(options, graphs)):
        what = "ranges of users" if name == USER_ID_FIELD else f"values of {name}"
        yield Difference(f"graphs for {what}", "yes", "no")
