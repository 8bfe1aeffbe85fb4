"""The checks of index settings: which graphs Qdrant builds in new collections, and what older collections lack."""

from __future__ import annotations

from memory_worker.inspection.checks import Check
from memory_worker.store.index_settings import GRAPH_FROM_KB, index_settings
from memory_worker.store.server_version import (
    FIRST_WITH_ONLY_USER_GRAPHS,
    FIRST_WITH_RELIABLE_USER_GRAPHS,
    Version,
)
from memory_worker.store.shape import CollectionShape
from memory_worker.store.tuning import TuningPlan

OF_QDRANT = "m=16, 10,000 kB"
USER_GRAPHS = "m=0, payload_m=16, 100,000 kB, tenant index"
ONE_GRAPH = "m=16, 400,000 kB, tenant index"
CPU_S = {OF_QDRANT: 265, USER_GRAPHS: 82, ONE_GRAPH: 7}
"""CPU time of Qdrant for writing and building in seconds, by collection, from docs/benchmark.md."""

_RELIABLE = ".".join(map(str, FIRST_WITH_RELIABLE_USER_GRAPHS))
_MISSES = (
    "Before Qdrant 1.20, a search of a large user can find nothing if it has a further filter, or once a certain point "
    "was deleted."
)


def check_graphs(shape: CollectionShape, version: Version) -> Check:
    """Check which graphs Qdrant builds in new collections."""
    name, settings = "HNSW settings", index_settings(shape, version)
    if settings.m == 0 and not settings.payload_m:
        return Check(
            name,
            "warning",
            "no graph: QDRANT_HNSW_M is 0, and QDRANT_HNSW_PAYLOAD_M is not above 0",
            "In new collections each search scans all points of its user. To avoid that, unset QDRANT_HNSW_M.",
        )
    if settings.m == 0 and version < FIRST_WITH_ONLY_USER_GRAPHS:
        return Check(
            name,
            "warning",
            "QDRANT_HNSW_M is 0, but this Qdrant builds graphs for all frequent payload values, not only for users",
            "That takes longer than one graph over all points. "
            f"Use Qdrant {_RELIABLE} or newer, or unset QDRANT_HNSW_M.",
        )
    if settings.m == 0 and version < FIRST_WITH_RELIABLE_USER_GRAPHS:
        return Check(
            name,
            "warning",
            "QDRANT_HNSW_M is 0, and this Qdrant stores one entry point for each graph of a user",
            f"{_MISSES} Use Qdrant {_RELIABLE} or newer, or unset QDRANT_HNSW_M.",
        )
    if settings.m is None and version < FIRST_WITH_RELIABLE_USER_GRAPHS:
        return Check(
            name, "ok", f"one graph over all points; from Qdrant {_RELIABLE} on, each large user gets a graph instead"
        )
    over_all = "the server's default" if settings.m is None else settings.m
    of_users = over_all if settings.payload_m is None else settings.payload_m
    return Check(name, "ok", f"edges per node: {over_all}, in graphs of single users: {of_users}")


def check_tuning(plan: TuningPlan) -> Check | None:
    """Check that a collection has the index settings of new ones.

    A collection that only lacks newer defaults works as well as ever, so that is no warning.
    """
    if not plan.differences:
        return None
    seen = "; ".join(f"{one.setting} {one.wanted}, the collection has {one.found}" for one in plan.differences)
    advice = f"{_benefit(plan)} To change the collection, run `memory-worker tune {plan.name}`."
    asked = any(one.asked for one in plan.differences)
    return Check(f"collection {plan.name}", "warning" if asked or plan.finds_too_little else "ok", seen, advice)


def _benefit(plan: TuningPlan) -> str:
    """Say what the change brings, with a figure of the benchmark if the plan leads to what was measured there."""
    if plan.finds_too_little:
        return _MISSES
    wanted = {one.setting: one.wanted for one in plan.differences if not one.asked}
    if wanted.get("QDRANT_HNSW_M") == "0":
        return f"Qdrant then builds graphs of large users only. {_measured(USER_GRAPHS)}"
    if "QDRANT_INDEXING_THRESHOLD_KB" in wanted:
        less = f" {_measured(ONE_GRAPH)}" if wanted["QDRANT_INDEXING_THRESHOLD_KB"] == f"{GRAPH_FROM_KB:,}" else ""
        return f"Qdrant then builds graphs less often.{less}"
    if "QDRANT_TENANT_INDEX" in wanted:
        return "Qdrant then stores the points of a user side by side."
    return "These settings apply to new collections only."


def _measured(name: str) -> str:
    return (
        f"In the benchmark, 100,000 points took it {CPU_S[name]} s of CPU instead of {CPU_S[OF_QDRANT]} s "
        "(docs/benchmark.md)."
    )
