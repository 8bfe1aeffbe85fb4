"""The report of a run, in 80 columns: medians over its rounds, and ratios to the peers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.console import Console

from memory_worker.bench.loops import Round
from memory_worker.bench.options import ARQ, DRAIN, PEERS, QUERY, UPLOAD, UPSERT, counterparts
from memory_worker.bench.run import Found
from memory_worker.terminal import Sheet, foreign

_HUNDRED = 100
_HOW_TO_READ = (
    "All figures are medians of the rounds; ranges are the lowest and the highest. In a closed loop a caller waits for "
    "its answer before the next call. In an open loop, and at 20% load, calls start at fixed times and are timed from "
    "then. A push ends when Redis has stored it; a direct write ends when Qdrant has applied it. Ours to it is our "
    "rate divided by the rate of the peer in the same round: pushes (direct upsert, one caller), the drain (other "
    "writes) or searches."
)


def print_report(found: Found, console: Console) -> None:
    """Print the report."""
    options, rounds = found.options, found.rounds
    away = f", network delay {options.delay_ms:g} ms each way" if options.delay_ms else ""
    console.print(
        f"Points: {options.points:,}, users: {options.users:,}, seed: {options.seed}, rounds: {options.rounds}{away}. "
        f"Callers and workers: {foreign(found.where, console)}"
    )
    ours, peers = Sheet(console, "our own paths"), Sheet(console, "used instead")
    for sheet, last in ((ours, "range"), (peers, "ours to it")):
        sheet.columns("path", whole=True)
        sheet.columns("p50 ms", "p99 ms", "per s", last, right=True)
    counterpart = counterparts(options.concurrency)
    for path in dict.fromkeys(path for one in rounds for path in one):
        figures = [one[path] for one in rounds if path in one]
        latencies = (_median([figure.ms[name] for figure in figures if name in figure.ms]) for name in ("p50", "p99"))
        rates = [figure.rate for figure in figures]
        if path.startswith((UPSERT, QUERY, UPLOAD, ARQ)):
            ratios = _ratios(rounds, counterpart.get(path, ""), path)
            peers.row(path, *latencies, _median(rates), f"{_median(ratios)} ({_range(ratios)})" if ratios else "")
        else:
            ours.row(path, *latencies, _median(rates), _range(rates))
    ours.show()
    if any(options.wants(peer) for peer in PEERS):
        peers.show()
    _print_processes(found, console)
    console.print(_HOW_TO_READ)
    for note in found.notes:
        console.print(f"note: {foreign(note, console)}")
    for problem in found.problems:
        console.print(f"[bold red]error:[/] {foreign(problem, console)}")


def _print_processes(found: Found, console: Console) -> None:
    """Print the CPU time of each process per write, and its peak memory."""
    sheet = Sheet(console, "processes: µs of CPU per write, memory")
    sheet.columns("process", whole=True)
    sheet.columns("drain", "arq jobs", "peak MiB", right=True)
    drains = {path: [one[path].cpu_us for one in found.rounds if path in one] for path in (DRAIN, ARQ)}
    for name, peak in found.peak_mib.items():
        cpu = (_median([used[name] for used in drains[path] if name in used]) for path in drains)
        sheet.row(name, *cpu, f"{peak:,.0f}")
    sheet.show()


def _ratios(rounds: Sequence[Round], ours: str, peer: str) -> list[float]:
    """Return the ratio of each round. Within a round the machine was equally fast for both."""
    return [one[ours].rate / one[peer].rate for one in rounds if ours in one and peer in one and one[peer].rate]


def _median(values: Sequence[float]) -> str:
    return _number(statistics.median(values)) if values else ""


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))}-{_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _HUNDRED else f"{value:.3g}"
