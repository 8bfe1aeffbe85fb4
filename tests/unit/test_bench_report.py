"""The report: medians and ratios in 80 columns, and no error is hidden."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from memory_worker.bench import options as names
from memory_worker.bench.loops import Figure, Round
from memory_worker.bench.options import Options
from memory_worker.bench.report import print_report
from memory_worker.bench.run import Found
from memory_worker.commands.main import main

CALLERS = 32


def figure(rate: float, p50: float | None = None, p99: float | None = None, **cpu_us: float) -> Figure:
    ms = {name: value for name, value in (("p50", p50), ("p90", p99), ("p99", p99)) if value is not None}
    return Figure(calls=1, sent=1, rate=rate, ms=ms, late_ms={"p99": 0.25}, cpu_us=cpu_us)


def a_round(drain: float = 9000, arq: float = 500, slow: float = 1) -> Round:
    """Return a round in which everything took ``slow`` times as long."""
    return {
        names.by(names.PUSH, 1): figure(5000, 0.2, 0.5, caller=90, Redis=20),
        names.by(names.PUSH, CALLERS): figure(6000, 5, 9),
        names.by(names.UPSERT, 1): figure(1000, 0.9, 2),
        names.by(names.UPSERT, CALLERS): figure(2000, 15, 30),
        names.DRAIN: figure(drain, worker=50.0, Redis=10.0),
        names.drained_by(names.DRAIN, 2): figure(1.25 * drain),
        names.NO_STORE: figure(20_000 / slow, **{"Qdrant": 40.0, "stand-in": 3.0}),
        names.drained_by(names.NO_STORE, 2): figure(36_000 / slow),
        names.UPLOAD: figure(10_000),
        names.ARQ: figure(arq, worker=2000.0),
        names.LOADED: figure(75, 12.34, 1_234.5),
        names.at(names.APPLIED, 300): figure(300, 2 * slow, 5 * slow),
        names.at(names.UPSERT, 300): figure(300, 1 * slow, 8 * slow),
        names.by(names.SEARCH, 1): figure(200, 4, 10),
        names.by(names.SEARCH, 8): figure(950 / slow, 8, 20),
        names.by(names.SEARCH, CALLERS): figure(900, 30, 80),
        names.by(names.QUERY, 1): figure(800, 1.5, 3),
        names.by(names.QUERY, 8): figure(500 / slow, 3, 6),
        names.by(names.QUERY, CALLERS): figure(1000, 30, 70),
        names.SEARCH_BESIDE: figure(180, 4, 18),
        names.beside(names.PAUSE): figure(10_000 / slow),
        names.beside(names.SEARCH_BESIDE): figure(8_000 / slow),
        f"{names.STEPS}worker, before update_batch": figure(0, 0.2, 0.3),
        f"{names.STEPS}all": figure(0, 2.1, 3.1),
    }


def found(**changes: Any) -> Found:
    defaults: dict[str, Any] = {
        "where": "A CPU, 2 cores, load before 0.10; Valkey 9 (append-only file), Qdrant 1.20, 1024 dimensions",
        "options": Options(peers=True, concurrency=(8, CALLERS), ingest_processes=2),
        "settings": {"QDRANT_HNSW_M": "0"},
        "rounds": [a_round(drain=rate) for rate in (9000.0, 10_000.0, 8000.0)],
        "rest_mib": {"worker": 101.4, "worker, all": 120.0},
        "peak_mib": {"worker": 152.4, "Redis": 4_233.0},
        "notes": [],
        "problems": [],
    }
    return Found(**{**defaults, **changes})


def shown(what: Found) -> str:
    console = Console(file=StringIO(), width=80)
    print_report(what, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def tables(what: Found) -> dict[str, dict[str, list[str]]]:
    """Return the rows of each table by its title."""
    found: dict[str, dict[str, list[str]]] = {}
    lines = [line.rstrip() for line in shown(what).splitlines()]
    for title, line in pairwise(lines):
        if line.startswith("┏"):
            rows = found.setdefault(title, {})
        elif line.startswith("│"):
            name, *values = (cell.strip() for cell in line.split("│")[1:-1])
            rows[name] = values
    return found


OURS, PEERS = "our own paths", "used instead"


def test_a_row_holds_the_medians_and_the_range_of_the_rounds() -> None:
    printed = tables(found())[OURS]
    assert printed[names.DRAIN] == ["", "", "9,000", "8,000-10,000"]
    assert printed["push, one caller"] == ["0.2", "0.5", "5,000", "5,000-5,000"]
    assert printed[names.LOADED] == ["12.3", "1,234", "75", "75-75"]


def test_peers_have_their_ratio_round_by_round() -> None:
    """A machine that was slower in one round was so for both sides."""
    printed = tables(found(rounds=[a_round(drain=9000, arq=1000), a_round(drain=900, arq=100)]))[PEERS]
    assert printed[names.ARQ] == ["", "", "550", "9 (9-9)"]
    printed = tables(found())[PEERS]
    assert printed[names.ARQ][-1] == "18 (16-20)"
    assert printed[names.UPLOAD][-1] == "0.9 (0.8-1)"
    assert printed["direct upsert, one caller"][-1] == "5 (5-5)"
    assert printed["direct upsert, 32 callers"][-1] == "4.5 (4-5)"
    assert printed["direct query, one caller"][-1] == "0.25 (0.25-0.25)"
    failed = {**a_round(), names.ARQ: figure(0)}
    assert tables(found(rounds=[failed]))[PEERS][names.ARQ][-1] == ""


def test_the_best_number_of_callers_is_that_with_the_highest_rate() -> None:
    printed = tables(found(rounds=[a_round()]))["at the best number of callers"]
    assert printed["search"] == ["8", "8", "20", "950", ""]
    assert printed["direct query"] == ["32", "30", "70", "1,000", "0.95"]
    assert printed["direct upsert"][-1] == "4.5"
    assert "at the best number of callers" not in tables(found(options=Options(peers=True)))


def test_equal_load_has_the_ratios_of_the_latencies_round_by_round() -> None:
    (printed,) = (of for title, of in tables(found(rounds=[a_round(), a_round(slow=4)])).items() if "equal" in title)
    assert printed == {"300": ["5", "12.5", "2.5", "20", "0.5", "1.6", "0.25"]}


def test_what_reads_cost_a_drain_and_what_processes_gain() -> None:
    printed = tables(found(rounds=[a_round(), a_round(slow=2)]))
    beside = printed["beside a full ingest"]
    assert beside == {"no reads": ["", "", "", "7,500", "1"], "search": ["4", "18", "180", "6,000", "0.8"]}
    processes = printed["ingest processes: writes per second"]
    assert processes[names.DRAIN] == ["9,000", "11,250", "1.25 (1.2-1.2)"]
    assert processes[names.NO_STORE] == ["15,000", "27,000", "1.8 (1.8-1.8)"]


def test_the_guide_is_beside_our_figures() -> None:
    (printed,) = (of for title, of in tables(found()).items() if "guide" in title)
    assert printed["Search, in the guide"] == ["12", "35", "850"]
    assert printed["search, one caller"] == ["4", "10", "200"]
    assert printed["search, 8 callers"] == ["8", "20", "950"]
    assert "Get, in the guide" not in printed


def test_calls_have_their_cpu_time_and_processes_their_memory() -> None:
    printed = tables(found())
    cpu = printed["CPU time per call, in µs"]
    assert cpu["push, one caller"] == ["90", "", "20", ""]
    assert cpu[names.ARQ] == ["", "2,000", "", ""]
    assert cpu[names.NO_STORE] == ["", "", "", "3"]
    assert printed["memory in MiB"]["worker"] == ["101", "152"]
    assert printed["memory in MiB"]["Redis"] == ["", "4,233"]
    steps = printed["the steps of a write on an idle system"]
    assert steps == {"worker, before update_batch": ["0.2", "0.3"], "all": ["2.1", "3.1"]}


def test_it_fits_in_80_columns_and_judges_nothing() -> None:
    printed = shown(found())
    assert max(len(line) for line in printed.splitlines()) <= 80
    for word in ("wanted", "NO", "goal", "target", "error"):
        assert word not in printed
    assert "…" not in printed
    assert "A CPU, 2 cores" in " ".join(printed.split())


def test_the_report_says_what_was_not_measured_by_leaving_it_out() -> None:
    only = {names.by(names.GET, 1): figure(300, 2, 3)}
    alone = found(rounds=[only], options=Options(only=("get",)), rest_mib={}, peak_mib={})
    assert [*tables(alone)] == [OURS, "beside the guide of the service before"]
    assert [*tables(alone)[OURS]] == ["path", "get, one caller"][1:]
    only_a_peer = found(rounds=[{names.UPLOAD: figure(10)}], rest_mib={}, peak_mib={})
    assert [*tables(only_a_peer)] == [PEERS]


def test_settings_are_shown_that_are_not_the_default() -> None:
    assert "Settings that are not the default: QDRANT_HNSW_M=0." in shown(found())
    assert "Settings that are not the default: none." in shown(found(settings={}))


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["the engine has 1 points, where 2 were written"], 1)])
def test_a_problem_is_shown_and_ends_the_command_with_1(
    monkeypatch: pytest.MonkeyPatch, problems: list[str], status: int
) -> None:
    async def measure(*_: object, **__: object) -> Found:
        return found(problems=problems, notes=["the callers could not keep up"])

    monkeypatch.setattr("memory_worker.commands.bench.measure", measure)
    urls = {"REDIS_URL": "redis://127.0.0.1:1", "QDRANT_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(main, ["bench"], env=urls)
    assert result.exit_code == status, result.output
    assert "note: the callers could not keep up" in result.output
    assert all(f"error: {problem}" in result.output for problem in problems)


def test_all_that_was_found_can_be_read_back_from_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(found()), type=Found) == found()
