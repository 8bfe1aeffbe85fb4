"""The index settings of a new collection: which graphs Qdrant builds, from which size on, and the tenant index.

Every search names its user, so a graph over the points of all users is not needed. Where the server can do it well, it
builds a graph for each large user instead. Older servers build one graph over all points, as they do by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory_worker.store.server_version import FIRST_WITH_RELIABLE_USER_GRAPHS, Version
from memory_worker.store.shape import CollectionShape

USER_GRAPH_M = 16
"""Edges per node in the graph of a user: as many as Qdrant's graph over all points has by default."""
DEFAULT_M = 16
"""Qdrant's default."""
_LEAST_FULL_SCAN_KB = 10
"""Qdrant refuses less."""
USER_GRAPHS_FROM_KB = 100_000
"""Below this size, a segment and a user in it get no graph. Building a segment copies the points of small users."""
GRAPH_FROM_KB = 400_000
"""Below this size, a segment gets no graph over all points. Small users pay for it, and need none."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The index settings of a new collection. ``None`` means that the server decides.

    ``m`` and ``payload_m`` are edges per node: in the graph over all points, and in the graph of one user. A search of
    fewer vectors than ``full_scan_threshold_kb`` compares them one by one.
    """

    m: int | None
    payload_m: int | None
    full_scan_threshold_kb: int | None
    indexing_threshold_kb: int
    tenant_index: bool


def index_settings(shape: CollectionShape, version: Version) -> IndexSettings:
    """Return the index settings of a new collection on a server of this version. Explicit settings always win."""
    m, payload_m = shape.hnsw_m, shape.hnsw_payload_m
    if m is None and payload_m != 0 and version >= FIRST_WITH_RELIABLE_USER_GRAPHS:
        m = 0
        payload_m = USER_GRAPH_M if payload_m is None else payload_m
    only_users = m == 0 and bool(payload_m)
    threshold_kb = shape.indexing_threshold_kb
    if threshold_kb is None:
        threshold_kb = USER_GRAPHS_FROM_KB if only_users else GRAPH_FROM_KB
    # The graph of a user has one layer. With a further filter, a search of it finds less than a search of other graphs.
    full_scan_kb = max(threshold_kb, _LEAST_FULL_SCAN_KB) if only_users and threshold_kb else None
    return IndexSettings(m, payload_m, full_scan_kb, threshold_kb, shape.tenant_index)
