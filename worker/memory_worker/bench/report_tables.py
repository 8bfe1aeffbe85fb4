"""The report as tables, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from memory_worker.bench import names
from memory_worker.bench.compare import Compared, Spread
from memory_worker.bench.figures import Round
from memory_worker.bench.flat import Backlog
from memory_worker.bench.report import Cpu, Guide, Line, Report
from memory_worker.bench.usage import Memory

_MANY = 1000
_HOW_TO_READ = (
    "Closed loops: each caller waits for its answer before it calls again. Where it says open loop: calls at fixed "
    "times, timed from when each was due. Ours to it: our rate (push or drain, search) to that of a peer. A push "
    "returns once Redis has the write; a direct upsert, a job of arq's and upload_points once Qdrant has applied it."
)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: the first column is text, the others are numbers. ``note`` says how to read it."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def tables(found: Report) -> list[Table]:
    """Return the tables of a report that have something in them."""
    options = found.found.options
    return [
        table
        for table in (
            _paths(found.lines, len(found.found.rounds)),
            _compared(found.compared),
            _cpu(found.cpu),
            _memory(found.found.memory),
            _network(found.found.network),
            _backlogs(found.found.backlogs),
            _guide(found.guide, options.concurrency),
        )
        if table.rows
    ]


def print_report(found: Report, console: Console) -> None:
    """Print the report on a terminal."""
    console.print(f"{_conditions(found)}\n{found.where}", markup=False, highlight=False)
    for table in tables(found):
        shown = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
        for position, heading in enumerate(table.headings):
            shown.add_column(heading, justify="right" if position else "left")
        for row in table.rows:
            shown.add_row(*(escape(cell) for cell in row))
        console.print(shown)
    for note in found.found.notes:
        console.print(f"note: {note}", markup=False)
    for error in found.errors:
        console.print(f"[bold red]error:[/] {escape(error)}")


def markdown(found: Report) -> str:
    """Return the report as Markdown."""
    parts = [_conditions(found), f"Measured on: {found.where}."]
    if found.errors:
        parts.append("**With errors: these figures are worth nothing.**")
    for table in tables(found):
        parts += [f"**{table.title}**", _markdown_rows(table), table.note]
    parts += [f"- {note}" for note in found.found.notes]
    parts += [f"- error: {error}" for error in found.errors]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_rows(table: Table) -> str:
    ruler = ("---", *["---:"] * (len(table.headings) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in (table.headings, ruler, *table.rows))


def _conditions(found: Report) -> str:
    raw, options = found.found, found.found.options
    delay = f"; everything {options.delay_ms:g} ms farther away, each way" if options.delay_ms else ""
    return (
        f"{options.points:,} points of {options.users:,} users, {raw.dimension} dimensions, seed {options.seed}; "
        f"medians of {len(raw.rounds)} rounds{delay}; everything on one machine."
    )


def _paths(lines: Sequence[Line], rounds: int) -> Table:
    rows = [
        (
            _path(line),
            _ms(line.p50_ms),
            _ms(line.p90_ms),
            _ms(line.p99_ms),
            f"{line.rate.median:,.0f}",
            _from_to(line.rate) if rounds > 1 else "",
            _times(line.ours_to_it),
        )
        for line in lines
    ]
    return Table(
        title="paths",
        headings=("path", "p50 ms", "p90 ms", "p99 ms", "a second", "lowest to highest", "ours to it"),
        rows=rows,
        note=_HOW_TO_READ,
    )


def _compared(found: Sequence[Compared]) -> Table:
    rows = [
        (
            one.what,
            f"{_number(one.value.median)} {one.unit}",
            f"{_number(one.value.lowest)} to {_number(one.value.highest)}",
            f"{one.wanted} {one.unit}",
            "yes" if one.met else "NO",
        )
        for one in found
    ]
    return Table(title="compared", headings=("what", "is", "lowest to highest", "wanted", "so"), rows=rows)


def _cpu(found: Sequence[Cpu]) -> Table:
    processes = list(dict.fromkeys(process for one in found for process in one.cpu_us))
    rows = [
        (one.path, *(f"{one.cpu_us[name].median:,.0f}" if name in one.cpu_us else "" for name in processes))
        for one in found
    ]
    headings = ("path", *(f"{name}, µs a write" for name in processes))
    return Table(title="CPU time of a write", headings=headings, rows=rows)


def _memory(found: dict[str, Memory]) -> Table:
    rows = [
        (name, f"{one.rss_peak_mib:,.0f}", "" if one.pss_mib is None else f"{one.pss_mib:,.0f}")
        for name, one in found.items()
    ]
    return Table(
        title="memory",
        headings=("process", "RSS, peak MiB", "PSS, MiB"),
        rows=rows,
        note="PSS: as it was after a phase, the highest of them. What an engine maps of its files counts.",
    )


def _network(found: dict[str, Round]) -> Table:
    paths = list(dict.fromkeys(name for one in found.values() for name in one))
    rows = []
    for delay, one in found.items():
        cells = [_quantiles(one, path) for path in paths]
        rows.append((delay, *cells))
    return Table(
        title="network",
        headings=("added each way, ms", *(f"{path}: p50, p99 ms" for path in paths)),
        rows=rows,
        note="Added before Redis and before Qdrant, by a proxy that takes its own share of the CPU; one caller.",
    )


def _quantiles(found: Round, path: str) -> str:
    figure = found.get(path)
    if figure is None or figure.p50_ms is None or figure.p99_ms is None:
        return ""
    return f"{figure.p50_ms:.2f}, {figure.p99_ms:.2f}"


def _backlogs(found: Sequence[Backlog]) -> Table:
    processes = list(dict.fromkeys(process for one in found for process in one.memory))
    rows = [
        (
            f"{one.jobs:,}",
            f"{one.pushed.rate:,.0f}",
            f"{one.drained.rate:,.0f}",
            *(f"{one.drained.cpu_us[name]:,.0f}" if name in one.drained.cpu_us else "" for name in processes),
            *(f"{one.memory[name].rss_peak_mib:,.0f}" if name in one.memory else "" for name in processes),
        )
        for one in found
    ]
    cpu = (f"{name}, µs a write" for name in processes)
    memory = (f"{name}, peak MiB" for name in processes)
    return Table(
        title="backlogs", headings=("waiting", "pushed a second", "drained a second", *cpu, *memory), rows=rows
    )


def _guide(found: Sequence[Guide], callers: int) -> Table:
    rows = [
        (
            f"{one.operation} ({one.path})",
            *(f"{number:,}" for number in one.guide),
            "" if one.p50_ms is None else f"{one.p50_ms:.2f}",
            "" if one.p99_ms is None else f"{one.p99_ms:.2f}",
            "" if one.rate is None else f"{one.rate:,.0f}",
        )
        for one in found
    ]
    headings = ("operation", "guide: p50 ms", "p99 ms", "a second", "here: p50 ms", "p99 ms", "a second")
    return Table(
        title="beside the performance guide",
        headings=headings,
        rows=rows,
        note=f"The guide's are of other hardware (16 cores, 100,000 points). Here: one caller's latency, and what "
        f"{callers} callers get a second; a write is {names.PUSH}ed, and searchable when {names.IDLE!r} says.",
    )


def _path(line: Line) -> str:
    remarks = ["open loop"] if line.loop == "open" else []
    remarks += [f"{line.errors} errors"] if line.errors else []
    return f"{line.path} ({', '.join(remarks)})" if remarks else line.path


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _MANY else f"{value:.3g}"


def _ms(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f}"


def _from_to(value: Spread) -> str:
    return f"{value.lowest:,.0f} to {value.highest:,.0f}"


def _times(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.lowest:.2f} to {value.highest:.2f})"
