"""README.md and docs/ agree with the code: settings, names, defaults and figures."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest

from memory_worker.commands.library_variables import HIDDEN
from memory_worker.commands.main import COMMANDS
from memory_worker.contract.kinds import KINDS, Kind
from memory_worker.settings import Settings, secret_file_variables, variables
from memory_worker.settings.variable_names import ALSO_CALLED, OTHER_PROGRAMS
from tests.documents import (
    ROOT,
    commands,
    found_in_code,
    inline_code,
    joined,
    links,
    prose,
    sections,
)

README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
DOCUMENTS = [CHANGELOG, *PAGES]  # the changelog may name what is no more
BENCHMARK = DOCS / "benchmark.md"
TOP_LEVEL = ("worker/", "clients/", "tests/", "deploy/", "docs/", ".ci/")

NOT_SETTINGS = {
    *("TEST_REDIS_URL", "TEST_QDRANT_URL", "TEST_QDRANT_API_KEY", "TEST_REQUIRED_TOOLS"),
    *("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),  # of the libraries, and in effect
    *("RUST_LOG", "RUST_LOG_JSON", "TOKIO_WORKER_THREADS"),  # of the service before this one
    "REDIS_PASWORD",  # an example of a misspelt name
    "GRPC_VERBOSITY",
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    *(
        "OTEL_TRACES_EXPORTER",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
    ),
    *HIDDEN,
    *OTHER_PROGRAMS,
    *ALSO_CALLED,
    *(code.name for code in grpc.StatusCode),
}
NOT_OF_THE_WORKER = {
    *(
        "all_job_results",
        "enqueue_job",
        "max_tries",
        "queue_name",
        "_job_id",
        "_defer_until",
        "expires_extra_ms",
        "upload_points",
        "query_points",
    ),  # arq and qdrant-client
    "user_memories_staging",  # a collection of somebody else
    "strict_types",  # PHP
}


@cache
def sources() -> str:
    """Return the code of the package, Lua included."""
    paths = [path for path in sorted((ROOT / "worker").rglob("*")) if path.suffix in {".py", ".lua"}]
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


class TestReadme:
    def test_it_is_short(self) -> None:
        assert len(README.read_bytes()) <= 10_000

    def test_the_index_lists_every_page(self) -> None:
        index = DOCS / "README.md"
        listed = {(DOCS / target).resolve() for target in links(index)}
        assert {path for path in DOCS.rglob("*.md") if path != index} <= listed

    @pytest.mark.parametrize(
        ("row", "measured", "instead", "column"),
        [
            ("a write keeps its caller waiting, p50", "push, one caller", "direct `upsert(wait=True)`, one caller", 0),
            (
                "a write is searchable after, p50",
                "write until searchable, idle",
                "direct `upsert(wait=True)`, one caller",
                0,
            ),
            (
                "writes per second, one worker process",
                "drain of single writes, one process",
                "one arq job per write",
                2,
            ),
            ("a search takes, one caller, p50", "search, one caller", "direct `query_points`, one caller", 0),
            ("searches per second, 64 callers", "search, 64 callers", "direct `query_points`, 64 callers", 2),
        ],
    )
    def test_its_figures_are_those_of_the_benchmark(self, row: str, measured: str, instead: str, column: int) -> None:
        shown = [float(re.match(r"[\d,.]+", cell)[0].replace(",", "")) for cell in table_row(README, row)]
        found = [float(table_row(BENCHMARK, name)[column].replace(",", "")) for name in (measured, instead)]
        assert shown == pytest.approx(found, abs=0.005)


def table_row(path: Path, first: str) -> list[str]:
    """Return the cells behind the first one in the table row that begins with it."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \|(.+)\|$", prose(path), re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def test_every_command_is_mentioned() -> None:
    mentioned = {line.split()[0] for line in commands(DOCUMENTS)}
    assert {*COMMANDS} <= mentioned


def test_every_variable_is_a_setting() -> None:
    named = found_in_code(PAGES, r"(?<![\w$])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?!__)")
    assert {"REDIS_URL", "QUEUE_PARTITIONS"} <= {*named}
    assert not [name for name in named if name not in {*variables(), *secret_file_variables(), *NOT_SETTINGS}]


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_name_is_one_of_the_worker(path: Path) -> None:
    """Events, reasons, fields, methods and metrics that are named within the text occur in the code."""
    names = {
        name.removeprefix("memory_worker_")
        for piece in inline_code(path)
        for name in re.findall(r"(?<![\w.:/-])_?[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b(?![\w.:/-])", piece)
    }
    assert not [name for name in names - NOT_OF_THE_WORKER if not re.search(rf"\b{name}\b", sources())]


@pytest.mark.parametrize("path", DOCUMENTS, ids=page)
def test_every_file_named_exists(path: Path) -> None:
    words = [word for piece in inline_code(path) for word in piece.split()]
    assert not [word for word in words if word.startswith(TOP_LEVEL) and not (ROOT / word.partition(":")[0]).exists()]


def test_every_module_that_is_run_exists() -> None:
    modules = found_in_code(PAGES, r"python3? -m ([\w.]+)")
    assert "memory_worker.commands.reference" in modules
    assert not [name for name in modules if find_spec(name) is None]


def test_the_rooms_are_those_of_the_package() -> None:
    section = sections(DOCS / "contributing.md")["find-the-right-room"]
    listed = {
        name for row in re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    there = {
        path.stem
        for path in (ROOT / "worker" / "memory_worker").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert listed == there - {"__init__", "__main__"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_table_of_kinds_is_that_of_the_code(kind: Kind) -> None:
    column = [*KINDS].index(kind.name)
    concepts = DOCS / "concepts.md"
    indexes = table_row(concepts, "payload indexes")[column]
    assert {*re.findall(r"`(\w+)`", indexes)} == {*kind.indexes}
    fields = table_row(concepts, "payload fields with a fixed type")[column]
    also = re.findall(r"`(\w+)`", sections(concepts)["kinds"].partition("Both kinds may also carry")[2])[:5]
    assert {*re.findall(r"`(\w+)`", fields), *also} == {*kind.payload_types}
    defaults = table_row(concepts, "search defaults")[column]
    assert defaults == f"`limit` {kind.default_limit}, `min_score` {kind.default_min_score}"


def test_defaults_that_are_quoted() -> None:
    settings = Settings()
    takeover_s = settings.lease_ttl_s + 2 * settings.rescue_interval_s + 1
    quoted = {
        README: [f"within {takeover_s:.0f} seconds with the default settings"],
        DOCS / "concepts.md": [
            f"this is {takeover_s:.0f} s",
            f"`REDIS_PATIENCE_S` ({settings.redis_patience_s:g} s)",
            f"fixes it at {settings.queue_partitions}",
        ],
        DOCS / "arq.md": [
            f"`SEARCH_POLL_MS` ({settings.search_poll_ms} ms)",
            f"`ARQ_WRITES_POLL_MS` ({settings.arq_writes_poll_ms} ms)",
        ],
        DOCS / "quickstart.md": [f"on port {settings.port}"],
    }
    for path, phrases in quoted.items():
        for phrase in phrases:
            assert phrase in joined(path), f"{page(path)}: {phrase}"
