"""The report of a benchmark: medians over its rounds, as a table, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from worker import __version__
from worker.bench.phases import Options, Round
from worker.bench.timing import Latency


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One path: medians over the rounds, and the lowest and highest rate of a round."""

    path: str
    p50_ms: float | None = None
    p99_ms: float | None = None
    rate: float
    lowest_rate: float
    highest_rate: float


class Ratio(msgspec.Struct, frozen=True):
    """How two paths of one run compare."""

    what: str
    value: float
    unit: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured, and where."""

    version: str
    machine: str
    dimension: int
    options: Options
    lines: list[Line]
    ratios: list[Ratio]
    rounds: list[Round]


def report(rounds: Sequence[Round], options: Options, *, dimension: int) -> Report:
    """Return the medians of ``rounds`` and the ratios between them."""
    lines = [
        _latency("push, one caller", rounds, lambda r: r.push_one),
        _latency(f"push, {options.callers} callers", rounds, lambda r: r.push_many_callers),
        _rate("push, many at a time", [r.push_bulk_rate for r in rounds]),
        _rate("drain of single writes, one process", [r.drain_rate for r in rounds]),
        _latency("write until searchable, idle", rounds, lambda r: r.visible),
        _latency("search, one caller", rounds, lambda r: r.search),
        _latency("search straight at the engine", rounds, lambda r: r.search_direct),
    ]
    arq_rates = [r.arq_rate for r in rounds if r.arq_rate is not None]
    if arq_rates:
        lines.append(_rate("one arq job per write, one process", arq_rates))
    return Report(
        version=__version__,
        machine=machine(),
        dimension=dimension,
        options=options,
        lines=lines,
        ratios=_ratios(rounds),
        rounds=list(rounds),
    )


def print_report(found: Report, console: Console) -> None:
    """Print the report as tables."""
    console.print(f"{found.machine}; vectors of {found.dimension} dimensions; {len(found.rounds)} rounds, medians")
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == _HEADINGS[0] else "right")
    for line in found.lines:
        table.add_row(*_cells(line))
    console.print(table)
    for ratio in found.ratios:
        console.print(f"{ratio.what}: [bold]{ratio.value:.3g}[/]{ratio.unit}")


def markdown(found: Report) -> str:
    """Return the report as Markdown."""
    rows = [_HEADINGS, ("---", *["---:"] * (len(_HEADINGS) - 1)), *(_cells(line) for line in found.lines)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    ratios = "\n".join(f"- {ratio.what}: **{ratio.value:.3g}**{ratio.unit}" for ratio in found.ratios)
    where = f"{found.machine}; {found.dimension} dimensions; medians of {len(found.rounds)} rounds."
    return f"{where}\n\n{table}\n\n{ratios}\n"


def machine() -> str:
    """Describe this machine: processor, cores, system."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {system}"


_HEADINGS = ("path", "p50 ms", "p99 ms", "a second", "lowest to highest")


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.path,
        "" if line.p50_ms is None else f"{line.p50_ms:.2f}",
        "" if line.p99_ms is None else f"{line.p99_ms:.2f}",
        f"{line.rate:,.0f}",
        f"{line.lowest_rate:,.0f} to {line.highest_rate:,.0f}",
    )


def _latency(path: str, rounds: Sequence[Round], of: Callable[[Round], Latency]) -> Line:
    found = [of(one) for one in rounds]
    rates = [latency.rate for latency in found]
    return Line(
        path=path,
        p50_ms=statistics.median(latency.p50_ms for latency in found),
        p99_ms=statistics.median(latency.p99_ms for latency in found),
        rate=statistics.median(rates),
        lowest_rate=min(rates),
        highest_rate=max(rates),
    )


def _rate(path: str, rates: Sequence[float]) -> Line:
    return Line(path=path, rate=statistics.median(rates), lowest_rate=min(rates), highest_rate=max(rates))


def _ratios(rounds: Sequence[Round]) -> list[Ratio]:
    ratios = [
        Ratio(
            "search through the queue, p50 above the engine's own",
            statistics.median(r.search.p50_ms - r.search_direct.p50_ms for r in rounds),
            " ms",
        )
    ]
    with_arq = [r.drain_rate / r.arq_rate for r in rounds if r.arq_rate]
    if with_arq:
        ratios.append(Ratio("drain of single writes to one arq job per write", statistics.median(with_arq), " times"))
    return ratios


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as described:  # noqa: PTH123  # a file of the kernel's
            names = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"
