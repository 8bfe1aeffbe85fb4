"""The report: medians and ratios in 80 columns, and no error is hidden."""

from __future__ import annotations

from io import StringIO
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
    ms = {name: value for name, value in (("p50", p50), ("p99", p99)) if value is not None}
    return Figure(calls=1, sent=1, rate=rate, ms=ms, cpu_us=cpu_us)


def a_round(drain: float = 9000, arq: float = 500) -> Round:
    return {
        names.by(names.PUSH, 1): figure(5000, 0.2, 0.5),
        names.by(names.PUSH, CALLERS): figure(6000, 5, 9),
        names.by(names.UPSERT, 1): figure(1000, 0.9, 2),
        names.by(names.UPSERT, CALLERS): figure(2000, 15, 30),
        f"{names.UPSERT}, 50/s open loop": figure(50, 15, 30),
        names.DRAIN: figure(drain, worker=50.0, Redis=10.0),
        names.UPLOAD: figure(10_000),
        names.ARQ: figure(arq, worker=2000.0),
        names.LOADED: figure(75, 12.34, 1_234.5),
        names.by(names.SEARCH, 1): figure(200, 4, 10),
        names.by(names.SEARCH, CALLERS): figure(900, 30, 80),
        names.by(names.QUERY, 1): figure(800, 1.5, 3),
        names.by(names.QUERY, CALLERS): figure(1000, 30, 70),
    }


def found(**changes: Any) -> Found:
    defaults: dict[str, Any] = {
        "where": "A CPU, 2 cores, load before 0.10; Valkey 9 (append-only file), Qdrant 1.20, 1024 dimensions",
        "options": Options(peers=True),
        "rounds": [a_round(drain=rate) for rate in (9000.0, 10_000.0, 8000.0)],
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


def rows(what: Found) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown(what).splitlines() if "│" in line]
    return {name: values for name, *values in cells}


def test_a_row_holds_the_medians_and_the_range_of_the_rounds() -> None:
    printed = rows(found())
    assert printed[names.DRAIN] == ["", "", "9,000", "8,000-10,000"]
    assert printed["push, one caller"] == ["0.2", "0.5", "5,000", "5,000-5,000"]
    assert printed[names.LOADED] == ["12.3", "1,234", "75", "75-75"]


def test_peers_have_their_ratio_round_by_round() -> None:
    """A machine that was slower in one round was so for both sides."""
    printed = rows(found(rounds=[a_round(drain=9000, arq=1000), a_round(drain=900, arq=100)]))
    assert printed[names.ARQ] == ["", "", "550", "9 (9-9)"]
    assert rows(found())[names.ARQ][-1] == "18 (16-20)"
    assert rows(found())[names.UPLOAD][-1] == "0.9 (0.8-1)"
    assert rows(found())["direct upsert, one caller"][-1] == "5 (5-5)"
    assert rows(found())["direct upsert, 32 callers"][-1] == "4.5 (4-5)"
    assert rows(found())["direct query, one caller"][-1] == "0.25 (0.25-0.25)"
    assert rows(found())["direct upsert, 50/s open loop"][-1] == ""
    failed = {**a_round(), names.ARQ: figure(0)}
    assert rows(found(rounds=[failed]))[names.ARQ][-1] == ""


def test_processes_have_their_cpu_time_and_memory() -> None:
    printed = rows(found())
    assert printed["worker"] == ["50", "2,000", "152"]
    assert printed["Redis"] == ["10", "", "4,233"]


def test_it_fits_in_80_columns_and_judges_nothing() -> None:
    printed = shown(found())
    assert max(len(line) for line in printed.splitlines()) <= 80
    for word in ("wanted", "NO", "goal", "target", "error"):
        assert word not in printed
    assert "…" not in printed
    assert "A CPU, 2 cores" in " ".join(printed.split())


def test_the_report_says_what_was_not_measured_by_leaving_it_out() -> None:
    only = {names.by(names.GET, 1): figure(300, 2, 3)}
    alone = found(rounds=[only], options=Options(only=("get",)), peak_mib={})
    assert [name for name in rows(alone) if name] == ["get, one caller"]
    titles = ("our own paths", "used instead")
    assert [line.strip() for line in shown(alone).splitlines() if line.strip() in titles] == ["our own paths"]
    only_a_peer = found(options=Options(only=("upsert",)))
    assert [line.strip() for line in shown(only_a_peer).splitlines() if line.strip() in titles] == [*titles]


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
