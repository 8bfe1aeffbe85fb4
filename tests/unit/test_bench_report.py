"""The report: medians, tables, and that an error is never hidden."""

from __future__ import annotations

from io import StringIO
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from memory_worker.bench import names
from memory_worker.bench.figures import Figure
from memory_worker.bench.flat import Backlog
from memory_worker.bench.machine import Engines, Machine
from memory_worker.bench.options import Options
from memory_worker.bench.report import Report, report
from memory_worker.bench.report_tables import markdown, print_report, tables
from memory_worker.bench.run import Found
from memory_worker.bench.usage import Memory
from memory_worker.commands.main import main
from tests.unit.test_bench_compare import CALLERS, a_round, figure


def found(**changes: Any) -> Found:
    drain = msgspec.structs.replace(figure(9000), cpu_us={"worker": 50.0, "Redis": 10.0})
    defaults: dict[str, Any] = {
        "machine": Machine(cpu="A CPU", cores=2, memory_gib=4, kernel="Linux 6", python="CPython 3.13", load=0.1),
        "engines": Engines(
            redis="Valkey 9", redis_persistence="append-only file", qdrant="Qdrant 1.20", libraries={"arq": "0.28"}
        ),
        "dimension": 1024,
        "options": Options(rounds=3, concurrency=CALLERS),
        "fill": {names.FILL: figure(7000)},
        "settled_s": 0.0,
        "rounds": [a_round(DRAIN=msgspec.structs.replace(drain, rate=rate)) for rate in (9000.0, 10_000.0, 8000.0)],
        "network": {"nothing in between": {names.SEARCH: figure(200, 4, 9)}, "5": {names.SEARCH: figure(20, 45, 60)}},
        "backlogs": [
            Backlog(jobs=10, stored=10, pushed=figure(30_000), drained=drain, memory={"worker": Memory(120.0, 80.0)})
        ],
        "memory": {"worker, ingest": Memory(152.4, None), "Redis": Memory(20.0, 19.0)},
        "notes": [],
        "problems": [],
    }
    return Found(**{**defaults, **changes})


def lines(told: Report) -> dict[str, Any]:
    return {line.path: line for line in told.lines}


def shown(told: Report) -> str:
    console = Console(file=StringIO(), width=200)
    print_report(told, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_line_holds_the_median_and_the_spread_of_the_rounds() -> None:
    line = lines(report(found()))[names.DRAIN]
    assert (line.rate.median, line.rate.lowest, line.rate.highest) == (9000, 8000, 10_000)
    assert line.p50_ms is None
    assert lines(report(found()))[names.by(names.PUSH, 1)].p50_ms.median == 0.2


def test_fill_comes_first_and_peers_come_last_with_their_ratio() -> None:
    told = report(found())
    paths = [line.path for line in told.lines]
    assert paths[0] == names.FILL
    peers = {names.ARQ, names.UPLOAD} | {
        names.by(path, n) for path in (names.UPSERT, names.QUERY) for n in (1, CALLERS)
    }
    assert set(paths[-6:]) == peers
    assert all((line.ours_to_it is not None) == (line.path in peers) for line in told.lines)


@pytest.mark.parametrize("show", [markdown, shown])
def test_everything_is_told(show: Any) -> None:
    told = show(report(found()))
    for text in ("A CPU, 2 cores", "Valkey 9 (append-only file)", "arq 0.28", "1024 dimensions", "ours to it"):
        assert text in told
    for title in ("paths", "compared", "memory", "network", "backlogs", "beside the performance guide"):
        assert title in told
    assert "9,000" in told
    assert "152" in told
    assert "45.00, 60.00" in told
    assert "error" not in told


def test_the_tables_of_markdown_are_well_formed() -> None:
    told = report(found())
    for table in tables(told):
        assert all(len(row) == len(table.headings) for row in table.rows)
    rows = [line for line in markdown(told).splitlines() if line.startswith("|")]
    assert len(rows) == sum(len(table.rows) + 2 for table in tables(told))


def test_what_is_slower_than_wanted_is_said() -> None:
    assert "| NO |" not in markdown(report(found()))
    slow = found(rounds=[a_round(DRAIN=figure(100))])
    assert markdown(report(slow)).count("| NO |") == 3


def test_calls_that_failed_are_told_with_their_path_and_make_the_report_worthless() -> None:
    failed = Figure(loop="closed", calls=9, took_s=1, rate=9, p50_ms=1, errors={"ReadFailed: timeout": 2})
    told = report(found(rounds=[{**a_round(), names.GET: failed}, {**a_round(), names.GET: failed}]))
    assert told.errors == ["get: ReadFailed: timeout (4 times)"]
    assert lines(told)[names.GET].errors == 4
    for text in (markdown(told), shown(told)):
        assert "get (4 errors)" in text
        assert "ReadFailed: timeout (4 times)" in text
    assert "worth nothing" in markdown(told)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"problems": ["dead letters: 3"]}, "dead letters: 3"),
        ({"fill": {names.FILL: msgspec.structs.replace(figure(1), errors={"QueueFull: no": 1})}}, "QueueFull: no"),
        ({"network": {"5": {names.SEARCH: Figure(loop="closed", calls=0, took_s=1, rate=0, errors={"X": 1})}}}, "X"),
        (
            {"backlogs": [Backlog(jobs=10, stored=9, pushed=figure(1), drained=figure(1), memory={})]},
            "of a backlog of 10 the engine has 9 points",
        ),
    ],
)
def test_whatever_went_wrong_is_an_error(changes: dict[str, Any], error: str) -> None:
    (told,) = report(found(**changes)).errors
    assert error in told


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["the engine has 1 points, and should have 2"], 1)])
def test_the_command_ends_with_1_if_anything_went_wrong(
    monkeypatch: pytest.MonkeyPatch, problems: list[str], status: int
) -> None:
    async def measure(*_: object, **__: object) -> Found:
        return found(problems=problems)

    monkeypatch.setattr("memory_worker.commands.bench.measure", measure)
    urls = {"REDIS_URL": "redis://127.0.0.1:1", "QDRANT_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(main, ["bench", "--markdown"], env=urls)
    assert result.exit_code == status, result.output
    assert all(problem in result.output for problem in problems)


def test_the_report_can_be_read_back_from_json() -> None:
    told = report(found())
    assert msgspec.json.decode(msgspec.json.encode(told), type=Report) == told
