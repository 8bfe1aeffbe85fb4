"""The index settings of new collections by server version, and the plans that give them to older collections."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import grpc as q

from memory_worker.inspection.check_index_settings import (
    CPU_S,
    OF_QDRANT,
    ONE_GRAPH,
    USER_GRAPHS,
    check_graphs,
    check_tuning,
)
from memory_worker.store.creation import index_of
from memory_worker.store.index_settings import index_settings
from memory_worker.store.indexing import held
from memory_worker.store.operations import CollectionRef
from memory_worker.store.server_version import Version, version_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.tuning import TuningPlan, plan_of
from tests.documents import ROOT

MEMORIES = CollectionRef("memory")
OLD, ONLY_USERS, NEW = (1, 16), (1, 19), (1, 20)


@pytest.mark.parametrize(
    ("chosen", "version", "graphs"),
    [
        ({}, NEW, (0, 16)),
        ({}, (2, 0), (0, 16)),
        ({}, ONLY_USERS, (None, None)),
        ({}, OLD, (None, None)),
        ({}, (), (None, None)),
        ({"hnsw_m": 16}, NEW, (16, None)),
        ({"hnsw_m": 24, "hnsw_payload_m": 8}, NEW, (24, 8)),
        ({"hnsw_m": 0, "hnsw_payload_m": 16}, OLD, (0, 16)),
        ({"hnsw_m": 0}, NEW, (0, None)),
        ({"hnsw_payload_m": 8}, NEW, (0, 8)),
        ({"hnsw_payload_m": 8}, OLD, (None, 8)),
        ({"hnsw_payload_m": 0}, NEW, (None, 0)),
    ],
)
def test_the_graphs_of_new_collections(
    chosen: dict[str, int], version: Version, graphs: tuple[int | None, int | None]
) -> None:
    found = index_settings(CollectionShape(**chosen), version)  # type: ignore[arg-type]
    assert (found.m, found.payload_m) == graphs
    thresholds = (100_000, 100_000) if found.m == 0 and found.payload_m else (400_000, None)
    assert (found.indexing_threshold_kb, found.full_scan_threshold_kb) == thresholds


@pytest.mark.parametrize(("threshold_kb", "full_scan_kb"), [(0, None), (5, 10), (50_000, 50_000)])
def test_a_threshold_that_is_set_wins(threshold_kb: int, full_scan_kb: int | None) -> None:
    for version, full_scan in ((OLD, None), (NEW, full_scan_kb)):
        found = index_settings(CollectionShape(indexing_threshold_kb=threshold_kb), version)
        assert (found.indexing_threshold_kb, found.full_scan_threshold_kb) == (threshold_kb, full_scan)


@pytest.mark.parametrize(
    ("chosen", "version", "verdict", "seen"),
    [
        ({}, NEW, "ok", "edges per node: 0, in graphs of single users: 16"),
        ({}, OLD, "ok", "one graph over all points; from Qdrant 1.20 on"),
        ({}, ONLY_USERS, "ok", "one graph over all points; from Qdrant 1.20 on"),
        ({"hnsw_m": 24}, OLD, "ok", "edges per node: 24, in graphs of single users: 24"),
        ({"hnsw_payload_m": 0}, NEW, "ok", "edges per node: the server's default, in graphs of single users: 0"),
        ({"hnsw_m": 0}, NEW, "warning", "no graph"),
        ({"hnsw_m": 0, "hnsw_payload_m": 0}, NEW, "warning", "no graph"),
        ({"hnsw_m": 0, "hnsw_payload_m": 16}, NEW, "ok", "edges per node: 0"),
        ({"hnsw_m": 0, "hnsw_payload_m": 16}, ONLY_USERS, "warning", "one entry point"),
        ({"hnsw_m": 0, "hnsw_payload_m": 16}, OLD, "warning", "for all frequent payload values"),
    ],
)
def test_the_graphs_of_new_collections_are_checked(
    chosen: dict[str, int], version: Version, verdict: str, seen: str
) -> None:
    found = check_graphs(CollectionShape(**chosen), version)  # type: ignore[arg-type]
    assert found.verdict == verdict
    assert seen in found.seen


Describe = Callable[..., q.CollectionInfo]


@pytest.fixture
def described() -> Describe:
    """Describe a collection of memories with these settings and indexes."""

    def describe(
        *,
        m: int = 16,
        payload_m: int | None = None,
        threshold_kb: int = 10_000,
        tenant: bool = False,
        plain: bool = True,
    ) -> q.CollectionInfo:
        info = q.CollectionInfo(points_count=7)
        hnsw = q.HnswConfigDiff(m=m, payload_m=payload_m, ef_construct=100)
        hnsw.full_scan_threshold = 100_000 if m == 0 else 10_000
        info.config.hnsw_config.CopyFrom(hnsw)
        info.config.optimizer_config.indexing_threshold = threshold_kb
        types = {"integer": q.PayloadSchemaType.Integer, "keyword": q.PayloadSchemaType.Keyword}
        for field, index in CollectionShape().indexes("memory").items():
            schema = info.payload_schema[field]
            schema.data_type = types.get(index, q.PayloadSchemaType.Bool)
            if not plain:
                request = index_of("c", field, index, user_graphs=m == 0, tenant=tenant)
                schema.params.CopyFrom(request.field_index_params)
        return info

    return describe


def plan(info: q.CollectionInfo, version: Version, **chosen: Any) -> TuningPlan:
    return plan_of(CollectionShape(**chosen), MEMORIES, info, version)


def settings_of(found: TuningPlan) -> dict[str, tuple[str, str]]:
    return {one.setting: (one.found, one.wanted) for one in found.differences}


def test_a_collection_of_the_app_gets_all_settings_of_a_new_one(described: Describe) -> None:
    found = plan(described(), NEW)
    differing = settings_of(found)
    assert differing["QDRANT_HNSW_M"] == ("16", "0")
    assert differing["QDRANT_HNSW_PAYLOAD_M"] == ("none", "16")
    assert differing["QDRANT_INDEXING_THRESHOLD_KB"] == differing["full scan, kB"] == ("10,000", "100,000")
    assert differing["QDRANT_TENANT_INDEX"] == ("false", "true")
    assert differing["graphs for ranges of users"] == differing["graphs for values of category"] == ("yes", "no")
    assert {request.field_name for request in found.indexes} == set(CollectionShape().indexes("memory"))
    assert found.update is not None
    assert (found.update.hnsw_config.m, found.update.hnsw_config.payload_m) == (0, 16)
    assert found.update.optimizers_config.indexing_threshold == 100_000
    assert found.rebuilds


def test_a_collection_that_fits_needs_nothing(described: Describe) -> None:
    user_graphs = {"m": 0, "payload_m": 16, "threshold_kb": 100_000}
    for version, graphs in ((NEW, user_graphs), (OLD, {"m": 16, "threshold_kb": 400_000})):
        found = plan(described(tenant=True, plain=False, **graphs), version)
        assert (found.differences, found.indexes, found.update) == ([], [], None)
        assert check_tuning(found) is None


def test_the_graph_over_all_points_stays_on_older_servers(described: Describe) -> None:
    found = plan(described(), ONLY_USERS)
    assert set(settings_of(found)) == {"QDRANT_INDEXING_THRESHOLD_KB", "QDRANT_TENANT_INDEX"}
    assert [request.field_name for request in found.indexes] == ["user_id"]
    assert not found.rebuilds
    check = check_tuning(found)
    assert check is not None
    assert check.verdict == "ok"


def test_graphs_in_which_older_servers_find_too_little_are_replaced(described: Describe) -> None:
    info = described(m=0, payload_m=16, threshold_kb=100_000, tenant=True, plain=False)
    found = plan(info, ONLY_USERS)
    assert settings_of(found) == {
        "QDRANT_HNSW_M": ("0", "16"),
        "QDRANT_INDEXING_THRESHOLD_KB": ("100,000", "400,000"),
    }
    assert found.finds_too_little
    check = check_tuning(found)
    assert check is not None
    assert check.verdict == "warning"
    assert "can find nothing" in check.advice
    asked = plan(info, ONLY_USERS, hnsw_m=0, hnsw_payload_m=16)
    assert asked.differences == []


@pytest.mark.parametrize(
    ("version", "benefit"),
    [
        (NEW, f"{CPU_S[USER_GRAPHS]} s of CPU instead of {CPU_S[OF_QDRANT]} s"),
        (ONLY_USERS, f"{CPU_S[ONE_GRAPH]} s of CPU instead of {CPU_S[OF_QDRANT]} s"),
    ],
)
def test_what_tuning_brings_is_told(described: Describe, version: Version, benefit: str) -> None:
    check = check_tuning(plan(described(), version))
    assert check is not None
    assert benefit in check.advice
    assert "memory-worker tune user_memories" in check.advice


def test_the_figures_are_those_of_the_benchmark() -> None:
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for name, seconds in CPU_S.items():
        row = re.search(rf"^\| {re.escape(name)} \|(.+)\|$", page, re.MULTILINE)
        assert row is not None
        assert round(float(row[1].split("|")[2])) == seconds


def test_a_setting_that_is_set_is_a_warning(described: Describe) -> None:
    check = check_tuning(plan(described(), NEW, hnsw_m=24))
    assert check is not None
    assert check.verdict == "warning"
    assert "QDRANT_HNSW_M 24, the collection has 16" in check.seen


def test_bulk_mode_stays_on(described: Describe) -> None:
    found = plan(described(threshold_kb=held(10_000)), NEW)
    assert found.update is not None
    assert found.update.optimizers_config.indexing_threshold == held(100_000)
    assert settings_of(found)["QDRANT_INDEXING_THRESHOLD_KB"] == ("10,000", "100,000")
    fits = plan(described(m=0, payload_m=16, threshold_kb=held(100_000), tenant=True, plain=False), NEW)
    assert fits.differences == []


def test_the_tenant_field_of_a_worker_0_1_is_a_tenant_index(described: Describe) -> None:
    info = described(m=0, payload_m=16, threshold_kb=100_000, plain=False)
    info.payload_schema["_tenant"].params.keyword_index_params.is_tenant = True
    assert plan(info, NEW).differences == []


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.18.3", (1, 18)), ("1.20.0-dev", (1, 20)), ("2.0", (2, 0)), ("", ()), ("unknown", ())],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert version_of(text) == version
