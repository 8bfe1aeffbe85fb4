"""The documents for operators under deploy/ are correct: settings, metrics, names, code and arithmetic."""

from __future__ import annotations

import ast
import importlib
import re
from fractions import Fraction
from functools import cache
from math import ceil

import grpc
import pytest
import yaml

from memory_worker.settings import Settings, secret_file_variables, variables
from tests.documents import (
    ROOT,
    Block,
    blocks,
    found_in_code,
    joined,
    sections,
    text,
)

DEPLOY = ROOT / "deploy"
DOCUMENTS = sorted(DEPLOY.rglob("*.md"))
RUNBOOK, SIZING = DEPLOY / "RUNBOOK.md", DEPLOY / "SIZING.md"

PROBLEMS = [
    *("backlog-grows", "no-progress", "dead-letters", "dead-lettered-deletes", "qdrant-fails", "slow-searches"),
    *(
        "high-latency",
        "out-of-memory",
        "redis-memory",
        "replica-not-ready",
        "paused",
        "newer-contract",
        "worker-crashes",
    ),
    "stats-missing",
]
PROCEDURES = [
    *("deploy-and-roll-back", "upgrade-qdrant", "change-the-number-of-partitions"),
    *("restore-from-a-lost-redis", "restore-from-a-lost-qdrant"),
]
DISASTERS = ("restore-from-a-lost-redis", "restore-from-a-lost-qdrant")

NOT_SETTINGS = {
    "PRODUCER_SHA256",  # placeholders in users.acl
    "WORKER_SHA256",
    "ARQ_SHA256",
    "ADMIN_SHA256",
    "OPERATOR_SHA256",
    "NOT_REPLICATED",  # a reason of ours
    *("APP_NETWORK", "COMPOSE_FILE"),  # only Compose reads them
    "MEMORY_REDIS_URL",  # of an app
    *(code.name for code in grpc.StatusCode),
}
NOT_OURS = {
    # Qdrant's strict mode and optimizer
    "search_allow_exact",
    "unindexed_filtering_retrieve",
    "unindexed_filtering_update",
    "max_payload_index_count",
    "max_query_limit",
    "condition_max_size",
    "upsert_max_batchsize",
    "write_rate_limit",
    "read_rate_limit",
    "max_collection_vector_size_bytes",
    "max_collection_payload_size_bytes",
    "max_points_count",
    "prevent_unoptimized",
    # of prometheus-client
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    # Redis's
    "mem_allocator",
    # names that an operator chooses
    "admin_password",
    "arq_password",
    "operator_password",
    "producer_password",
    "worker_password",
    "acme_memories",
    "acme_documents",
}

TIMES = "\N{MULTIPLICATION SIGN}"


@cache
def sources() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "worker").rglob("*.py")))


def test_every_variable_is_a_setting() -> None:
    named = [
        name
        for name in found_in_code(DOCUMENTS, r"(?<![\w$])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?!__)")
        if name not in NOT_SETTINGS
    ]
    assert {"REDIS_URL", "QUEUE_PARTITIONS", "QDRANT_API_KEY_FILE"} <= {*named}
    assert not [name for name in named if name not in {*variables(), *secret_file_variables()}]


def test_every_metric_exists() -> None:
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found_in_code(DOCUMENTS, r"memory_worker_(\w+)")}
    assert named
    assert not [name for name in named if f'"{name}"' not in sources()]


def test_every_other_name_is_in_the_code_of_the_worker() -> None:
    """They are events, reasons, labels, fields and methods."""
    names = found_in_code(DOCUMENTS, r"(?<![\w.:/-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b(?![\w.:/-])")
    assert not [
        name
        for name in names
        if not name.startswith("memory_worker") and name not in NOT_OURS and not re.search(rf"\b{name}\b", sources())
    ]


@pytest.mark.parametrize("block", blocks(DOCUMENTS, "python"), ids=str)
def test_python_compiles_and_its_imports_exist(block: Block) -> None:
    tree = ast.parse(block.body)
    compile(tree, str(block), "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("block", blocks(DOCUMENTS, "yaml"), ids=str)
def test_yaml_can_be_parsed(block: Block) -> None:
    assert yaml.safe_load(block.body)


class TestRunbook:
    def test_it_has_exactly_these_sections(self) -> None:
        assert [*sections(RUNBOOK)] == [*PROBLEMS, *PROCEDURES]

    @pytest.mark.parametrize("problem", PROBLEMS)
    def test_each_problem_has_symptom_check_and_action(self, problem: str) -> None:
        labels = re.findall(r"^\*\*(Symptom|Shown by|Do)\.\*\*", sections(RUNBOOK)[problem], re.MULTILINE)
        assert labels == ["Symptom", "Shown by", "Do"]

    @pytest.mark.parametrize("disaster", DISASTERS)
    def test_each_disaster_section_begins_with_what_is_lost(self, disaster: str) -> None:
        assert sections(RUNBOOK)[disaster].strip().startswith("**What is lost.**")

    def test_each_alert_is_named_in_its_section(self) -> None:
        alerts = [
            rule
            for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
            for group in yaml.safe_load(text(path))["groups"]
            for rule in group["rules"]
            if "alert" in rule
        ]
        assert alerts
        for alert in alerts:
            page, _, anchor = alert["annotations"]["runbook"].partition("#")
            assert ROOT / page == RUNBOOK
            assert re.search(rf"\b{alert['alert']}\b", sections(RUNBOOK)[anchor]), alert["alert"]

    def test_each_alert_that_is_named_exists(self) -> None:
        rules = "".join(text(path) for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"))
        named = set(re.findall(r"\bMemoryWorker\w+", text(RUNBOOK)))
        assert not [name for name in named if f"alert: {name}\n" not in rules]


class TestArithmetic:
    """The figures follow from each other and from the defaults."""

    ENCODED, STORED = 4_311, 5_157
    GIB = 2**30

    def test_the_figures_are_those_of_the_measurement(self) -> None:
        assert f"| 1,024 | {self.ENCODED:,} | {self.STORED:,} |" in text(SIZING)
        assert f"**e = {self.ENCODED:,} and s = {self.STORED:,}**" in text(SIZING)

    def test_the_size_of_a_full_queue(self) -> None:
        settings = Settings()
        jobs = settings.queue_max_bytes // self.ENCODED
        assert jobs < settings.queue_max_jobs
        assert f"{settings.queue_max_bytes:,} / {self.ENCODED:,} = {jobs:,} jobs" in joined(SIZING)
        assert f"{jobs:,} {TIMES} {self.STORED:,} = {jobs * self.STORED:,} bytes" in joined(SIZING)

    def test_the_length_of_an_outage_that_the_queue_survives(self) -> None:
        section = sections(SIZING)["how-long-an-outage-the-queue-survives"]
        rows = re.findall(r"^\| (\d+) GiB \| ([\d,]+) \| (.+) \| (.+) \| (.+) \|$", section, re.MULTILINE)
        assert rows
        for memory, jobs, *times in rows:
            exact = int(memory) * self.GIB / self.STORED
            assert int(jobs.replace(",", "")) == int(exact)
            for rate, time in zip((10, 100, 1_000), times, strict=True):
                assert seconds(time) == pytest.approx(exact / rate, rel=0.02)

    def test_the_number_of_replicas_for_a_load(self) -> None:
        rows = re.findall(r"^\| ([\d.]+) \| (\d+) \|$", sections(SIZING)["ingest-workers"], re.MULTILINE)
        assert rows
        for load, replicas in rows:
            assert int(replicas) == ceil(Fraction(load) / Fraction("0.6"))

    def test_the_memory_of_vectors(self) -> None:
        full, quantized = 10**6 * 1024 * 4 * 3 // 2, 10**6 * 1024 * 3 // 2
        section = sections(SIZING)["qdrant"]
        for bytes_ in (full, quantized, full + quantized):
            assert f"{bytes_:,} bytes, {bytes_ / self.GIB:.1f} GiB" in section

    def test_the_quoted_defaults(self) -> None:
        settings = Settings()
        takeover_s = settings.lease_ttl_s + 2 * settings.rescue_interval_s + 1
        quoted = {
            SIZING: [
                f"`SEARCH_MAX_WAITING` = {settings.search_max_waiting:,}",
                f"`QUEUE_MAX_JOBS` = {settings.queue_max_jobs:,}",
                f"{settings.queue_partitions} / {settings.worker_concurrency} = "
                f"{settings.queue_partitions // settings.worker_concurrency} replicas",
                f"{settings.worker_concurrency} {TIMES} {settings.batch_max_jobs} /",
                f"= {takeover_s:.0f} s",
            ],
            RUNBOOK: [
                f"{takeover_s:.0f} s after it was killed",
                f"`RETRY_MAX_S` ({settings.retry_max_s:g} s)",
                f"`WORKER_GRACE_S` ({settings.worker_grace_s:g} s)",
            ],
            DEPLOY / "redis" / "README.md": [f"`REDIS_PATIENCE_S` ({settings.redis_patience_s:g} s)"],
        }
        for path, phrases in quoted.items():
            for phrase in phrases:
                assert phrase in joined(path), f"{path.name}: {phrase}"


def seconds(time: str) -> float:
    number, unit = time.split()
    return float(number) * {"min": 60, "h": 3600}[unit]
