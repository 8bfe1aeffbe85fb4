"""The report of a run: medians over its rounds, comparisons, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from memory_worker.bench import names
from memory_worker.bench.compare import Compared, Spread, compared, counterparts, our_rate_to, spread
from memory_worker.bench.figures import Figure, Round
from memory_worker.bench.machine import machine_line
from memory_worker.bench.run import Found


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One path: quantiles in milliseconds and calls a second, over the rounds.

    ``ours_to_it``, for a peer: how many times its rate ours is. ``errors``: calls that failed, in all rounds.
    """

    path: str
    loop: str
    p50_ms: Spread | None
    p90_ms: Spread | None
    p99_ms: Spread | None
    rate: Spread
    ours_to_it: Spread | None = None
    errors: int = 0


class Cpu(msgspec.Struct, frozen=True):
    """CPU time of each process for a write, in microseconds, over the rounds."""

    path: str
    cpu_us: dict[str, Spread]


class Guide(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as the performance guide tells of it (on other hardware), and here."""

    operation: str
    path: str
    guide: tuple[float, float, float]
    p50_ms: float | None
    p99_ms: float | None
    rate: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, and what it comes to. With ``errors`` it is worth nothing."""

    where: str
    lines: list[Line]
    compared: list[Compared]
    cpu: list[Cpu]
    guide: list[Guide]
    errors: list[str]
    found: Found


_GUIDE = {
    "Upsert": (8, 25, 1200),
    "Search": (12, 35, 850),
    "Get": (3, 10, 3000),
    "Delete": (5, 15, 2000),
}
"""p50 and p99 in ms and requests a second, on 16 cores of a Ryzen 9 7950X, as the guide has them."""


def report(found: Found) -> Report:
    """Return the report of what was found."""
    rounds, callers = found.rounds, found.options.concurrency
    return Report(
        where=machine_line(found.machine, found.engines),
        lines=_lines(found),
        compared=compared(rounds, callers),
        cpu=_cpu(rounds),
        guide=_guide(rounds, callers),
        errors=_errors(found),
        found=found,
    )


def _lines(found: Found) -> list[Line]:
    """Return a line for each path, in the order of the first round, the peers behind."""
    rounds, callers = found.rounds, found.options.concurrency
    paths = list(dict.fromkeys(name for one in rounds for name in one))
    peers = counterparts(callers)
    ordered = sorted(paths, key=lambda path: path in peers)
    return [_line(names.FILL, [found.fill], callers), *(_line(path, rounds, callers) for path in ordered)]


def _line(path: str, rounds: Sequence[Round], callers: int) -> Line:
    figures = _figures_of(rounds, path)
    return Line(
        path=path,
        loop=figures[0].loop,
        p50_ms=_spread(figure.p50_ms for figure in figures),
        p90_ms=_spread(figure.p90_ms for figure in figures),
        p99_ms=_spread(figure.p99_ms for figure in figures),
        rate=_spread(figure.rate for figure in figures) or Spread(0, 0, 0),
        ours_to_it=our_rate_to(path, rounds, callers),
        errors=sum(sum(figure.errors.values()) for figure in figures),
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    return spread([value for value in values if value is not None])


def _cpu(rounds: Sequence[Round]) -> list[Cpu]:
    found = []
    for path in (names.DRAIN, names.ARQ):
        figures = _figures_of(rounds, path)
        processes = dict.fromkeys(process for figure in figures for process in figure.cpu_us)
        if processes:
            of = {process: _spread(figure.cpu_us.get(process) for figure in figures) for process in processes}
            found.append(Cpu(path, {process: value for process, value in of.items() if value}))
    return found


def _guide(rounds: Sequence[Round], callers: int) -> list[Guide]:
    """Set our own figures beside the guide's: latency of one caller, and what many callers get a second."""
    paths = {"Upsert": names.PUSH, "Search": names.SEARCH, "Get": names.GET, "Delete": names.DELETE}
    return [
        Guide(
            operation=operation,
            path=path,
            guide=_GUIDE[operation],
            p50_ms=_median(one, lambda figure: figure.p50_ms),
            p99_ms=_median(one, lambda figure: figure.p99_ms),
            rate=_median(_figures_of(rounds, names.by(path, callers)), lambda figure: figure.rate),
        )
        for operation, path in paths.items()
        if (one := _figures_of(rounds, names.by(path, 1)))
    ]


def _figures_of(rounds: Sequence[Round], path: str) -> list[Figure]:
    return [one[path] for one in rounds if path in one]


def _median(figures: Sequence[Figure], of: Callable[[Figure], float | None]) -> float | None:
    found = _spread(of(figure) for figure in figures)
    return found.median if found else None


def _errors(found: Found) -> list[str]:
    """Return what went wrong: calls that failed, by path and kind, and problems of the run."""
    counted: Counter[str] = Counter()
    for where, figure in _figures(found):
        for error, count in figure.errors.items():
            counted[f"{where}: {error}"] += count
    lost = [
        f"of a backlog of {backlog.jobs:,} the engine has {backlog.stored:,} points"
        for backlog in found.backlogs
        if backlog.stored != backlog.jobs
    ]
    return [*(f"{error} ({count} times)" for error, count in counted.items()), *lost, *found.problems]


def _figures(found: Found) -> Iterable[tuple[str, Figure]]:
    for one in (found.fill, *found.rounds):
        yield from one.items()
    for delay, one in found.network.items():
        yield from ((f"{name}, delay {delay}", figure) for name, figure in one.items())
    for backlog in found.backlogs:
        yield f"push of a backlog of {backlog.jobs:,}", backlog.pushed
