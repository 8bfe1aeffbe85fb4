"""The report of a run, in 80 columns: medians over its rounds, and ratios within a round."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich.console import Console

from memory_worker.bench import options as names
from memory_worker.bench.loops import Figure
from memory_worker.bench.medians import Medians, ms
from memory_worker.bench.run import Found
from memory_worker.terminal import Sheet, foreign

_HOW_TO_READ = (
    "All figures are medians of the rounds; ranges are the lowest and the highest. In a closed loop a caller waits for "
    "its answer before the next call. In an open loop, at equal load and at 20% load, calls start at fixed times and "
    "are timed from then. A push ends when Redis has stored it; a direct write ends when Qdrant has applied it. Ours "
    "to it is our rate divided by the rate of the peer in the same round; for writes of many callers, in bulk and by "
    "arq it is that of the drain. At equal load, a factor above 1 means that ours is faster, and late is how much "
    "later than due our calls were sent."
)
_GUIDE = {
    "Upsert": (("8", "25", "1,200"), (names.PUSH, names.VISIBLE)),
    "Search": (("12", "35", "850"), (names.SEARCH,)),
    "Get": (("3", "10", "3,000"), (names.GET,)),
    "Delete": (("5", "15", "2,000"), (names.DELETED,)),
}
"""p50 and p99 in ms, calls per second, and our paths. They are from the table "Benchmark Results" of the Performance
Optimization Guide of the service that memory-worker replaces: 16 cores, 100,000 vectors of 1,024 dimensions."""
_PEERS = (*names.COUNTERPARTS, names.UPLOAD, names.ARQ)
_P50, _P99 = ms("p50"), ms("p99")
_Rows = Iterator[tuple[str, ...]]


def print_report(found: Found, console: Console) -> None:
    """Print the report. A table is shown if something of it was measured."""
    options = found.options
    away = f", network delay {options.delay_ms:g} ms each way" if options.delay_ms else ""
    console.print(
        f"Points: {options.points:,}, users: {options.users:,}, seed: {options.seed}, rounds: {options.rounds}{away}. "
        f"Callers and workers: {foreign(found.where, console)}"
    )
    changed = " ".join(f"{name}={value}" for name, value in found.settings.items())
    console.print(f"Settings that are not the default: {foreign(changed, console) or 'none'}.")
    medians = Medians(found.rounds)
    for (title, *headings), rows_of in _TABLES:
        rows = [*rows_of(found, medians)]
        if rows:
            sheet = Sheet(console, title)
            sheet.columns(headings[0], whole=True)
            sheet.columns(*headings[1:], right=True)
            for row in rows:
                sheet.row(*row)
            sheet.show()
    console.print(_HOW_TO_READ)
    for note in found.notes:
        console.print(f"note: {foreign(note, console)}")
    for problem in found.problems:
        console.print(f"[bold red]error:[/] {foreign(problem, console)}")


def _closed(medians: Medians) -> list[str]:
    """Return all paths that are not shown in tables of their own."""
    reads_beside = (names.beside(""), names.SEARCH_BESIDE, names.QUERY_BESIDE)
    elsewhere = (names.STEPS, *reads_beside, names.UNTRACED, names.TRACED, names.UNWATCHED, names.WATCHED)
    return [path for path in medians.paths if not path.startswith(elsewhere) and not path.endswith(names.OPEN_LOOP)]


def _ours(_: Found, medians: Medians) -> _Rows:
    for path in _closed(medians):
        if not path.startswith(_PEERS):
            yield path, *medians.row(path), medians.range(path)


def _peers(found: Found, medians: Medians) -> _Rows:
    counterparts = names.counterparts(found.options.concurrency)
    for path in _closed(medians):
        if path.startswith(_PEERS):
            yield path, *medians.row(path), medians.ratio(counterparts.get(path, ""), path, with_range=True)


def _best(found: Found, medians: Medians) -> _Rows:
    many = found.options.concurrency
    for path in (names.VISIBLE, *names.COUNTERPARTS.values(), *names.COUNTERPARTS):
        if len(many) > 1 and (callers := medians.best(path, many)):
            best, counterpart = names.by(path, callers), names.COUNTERPARTS.get(path, "")
            ours = names.DRAIN if path == names.UPSERT else names.by(counterpart, medians.best(counterpart, many))
            yield path, str(callers), *medians.row(best), medians.ratio(ours, best)


def _equal_load(found: Found, medians: Medians) -> _Rows:
    for rate in found.options.rates:
        ours, direct = names.at(names.APPLIED, rate), names.at(names.UPSERT, rate)
        if ours in medians.paths:
            yield (
                f"{rate:g}",
                *medians.row(ours)[:2],
                *medians.row(direct)[:2],
                medians.ratio(direct, ours, _P50),
                medians.ratio(direct, ours, _P99),
                medians.text(ours, lambda figure: figure.late_ms.get("p99")),
            )


def _beside_ingest(_: Found, medians: Medians) -> _Rows:
    for reads in (names.PAUSE, names.SEARCH_BESIDE, names.QUERY_BESIDE):
        drain = names.beside(reads)
        if drain in medians.paths:
            kept = medians.ratio(drain, names.beside(names.PAUSE))
            yield reads.removesuffix(names.DURING), *medians.row(reads), medians.text(drain), kept


def _processes(found: Found, medians: Medians) -> _Rows:
    count = found.options.ingest_processes
    for path in (names.DRAIN, names.NO_STORE):
        one, several = names.drained_by(path, 1), names.drained_by(path, count)
        if count > 1 and several in medians.paths:
            yield path, medians.text(one), medians.text(several), medians.ratio(several, one, with_range=True)


def _tracing(_: Found, medians: Medians) -> _Rows:
    if names.TRACED in medians.paths:
        off, on = names.UNTRACED, names.TRACED
        yield "drain", medians.text(off), medians.text(on), medians.ratio(on, off, with_range=True)


def _viewers(_: Found, medians: Medians) -> _Rows:
    for path in (names.UNWATCHED, names.WATCHED):
        if path in medians.paths:
            yield path, *medians.row(path), medians.ratio(path, names.UNWATCHED, _P99)


def _steps(_: Found, medians: Medians) -> _Rows:
    for path in medians.paths:
        if path.startswith(names.STEPS):
            yield path.removeprefix(names.STEPS), medians.text(path, _P50), medians.text(path, ms("p90"))


def _one_and_best(found: Found, medians: Medians, path: str) -> list[str]:
    """Return the names of a path with one caller, and with the best number of callers, as far as they were measured."""
    counts = dict.fromkeys((1, medians.best(path, found.options.concurrency)))
    return [name for count in counts if (name := names.by(path, count)) in medians.paths]


def _guide(found: Found, medians: Medians) -> _Rows:
    for operation, (figures, paths) in _GUIDE.items():
        if ours := [one for path in paths for one in _one_and_best(found, medians, path)]:
            yield f"{operation}, in the guide", *figures
            yield from ((f"  {path}", *medians.row(path)) for path in ours)


def _cpu(found: Found, medians: Medians) -> _Rows:
    looped = (names.VISIBLE, *names.COUNTERPARTS.values(), *names.COUNTERPARTS)
    paths = [one for path in looped for one in _one_and_best(found, medians, path)]
    kinds = (names.DRAIN, names.NO_STORE, names.UNTRACED, names.TRACED, names.UPLOAD, names.ARQ)
    drains = [path for path in medians.paths if path.startswith(kinds)]
    for path in (*paths, *drains):
        engine = "stand-in" if path.startswith(names.NO_STORE) else "Qdrant"
        used = [medians.text(path, partial(_cpu_us, part)) for part in ("caller", "worker", "Redis", engine)]
        if any(used):
            yield path, *used


def _cpu_us(part: str, figure: Figure) -> float | None:
    return figure.cpu_us.get(part)


def _memory(found: Found, _: Medians) -> _Rows:
    for name in {**found.rest_mib, **found.peak_mib}:
        yield name, *(f"{mib[name]:,.0f}" if name in mib else "" for mib in (found.rest_mib, found.peak_mib))


_LATENCIES = ("p50 ms", "p99 ms", "per s")
_TABLES = (
    (("our own paths", "path", *_LATENCIES, "range"), _ours),
    (("used instead", "path", *_LATENCIES, "ours to it"), _peers),
    (("at the best number of callers", "path", "callers", *_LATENCIES, "ours to it"), _best),
    (
        (
            "equal load: write until applied, direct upsert, in ms",
            *("per s", "p50", "p99", "direct p50", "p99", "factor p50", "p99", "late p99"),
        ),
        _equal_load,
    ),
    (("beside a full ingest", "reads", *_LATENCIES, "drain per s", "of none"), _beside_ingest),
    (("ingest processes: writes per second", "drain", "one", "several", "ratio"), _processes),
    (("tracing: writes per second", "", "off", "1% traced", "ratio"), _tracing),
    (("viewers of the console", "path", *_LATENCIES, "p99 to none"), _viewers),
    (("the steps of a write on an idle system", "step", "p50 ms", "p90 ms"), _steps),
    (("beside the guide of the service before", "path", *_LATENCIES), _guide),
    (("CPU time per call, in µs", "path", "caller", "worker", "Redis", "Qdrant"), _cpu),
    (("memory in MiB", "process", "at rest", "peak"), _memory),
)
