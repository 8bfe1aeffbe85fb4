"""The options of ``memory-worker bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from memory_worker.bench.options import OWN, PEERS, Options
from memory_worker.contract.errors import ConfigurationError

_Command = TypeVar("_Command", bound=Callable[..., Any])

_COUNT: Final = click.IntRange(min=1)
_AMOUNT: Final = click.FloatRange(min=0)
_TIME: Final = click.FloatRange(min=0, min_open=True)
_DEFAULTS: Final = Options()


def _option(name: str, type_: click.ParamType[Any], meaning: str) -> Callable[[_Command], _Command]:
    """Return an option whose name and default are those of a field of `Options`."""
    default = getattr(_DEFAULTS, name)
    return click.option(f"--{name.replace('_', '-')}", default=default, type=type_, show_default=True, help=meaning)


_OPTIONS: Final = (
    _option("points", _COUNT, "Points that are there before anything is measured."),
    _option("jobs", _COUNT, "Writes to drain in each round."),
    _option("calls", _COUNT, "Calls for each latency of one caller; many callers make up to ten times as many."),
    _option("concurrency", _COUNT, "Callers at once, where there are many."),
    _option("rounds", _COUNT, "Rounds; medians are told."),
    _option("seconds", _TIME, "Longest time for many callers at once, and beside an ingest."),
    _option("rate", _AMOUNT, "Measure open loops as well, of this many calls a second."),
    _option("users", _COUNT, "Users that the points belong to."),
    click.option("--dimension", type=_COUNT, help="Of the vectors; default: QDRANT_VECTOR_DIMENSION."),
    _option("seed", click.INT, "Seed of the data."),
    click.option("--only", default="", help=f"Only these, with commas: {', '.join((*OWN, *PEERS))}."),
    click.option("--peers", is_flag=True, help=f"Measure what would be used instead, too: {', '.join(PEERS)}."),
    _option("peer_jobs", _COUNT, "Writes in each round for one arq job per write."),
    _option("delay_ms", _AMOUNT, "Put Redis and Qdrant this much farther away, each way, for everything."),
    click.option("--delays", default="0,0.5,1,5", show_default=True, help="Delays of the network phase, in ms."),
    click.option(
        "--backlog", "backlogs", type=_COUNT, multiple=True, help="Compare backlogs of this size; repeatable."
    ),
    click.option(
        "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there."
    ),
    click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables as Markdown."),
)


def bench_options(command: _Command) -> _Command:
    """Give a command the options of the benchmark."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def options(*, only: str, delays: str, **chosen: Any) -> Options:
    """Return what was asked for; raises `ConfigurationError`, which names the option."""
    return Options(**chosen, only=_phases(only), delays_ms=_numbers(delays))


def _phases(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in found:
        if name not in (*OWN, *PEERS):
            raise ConfigurationError(f"--only: there is no {name!r}; there are {', '.join((*OWN, *PEERS))}")
    return found


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigurationError("--delays: expected numbers with commas between them, such as 0,0.5,1") from None
    if any(not 0 <= number < float("inf") for number in found):
        raise ConfigurationError("--delays: numbers must not be negative")
    return found
