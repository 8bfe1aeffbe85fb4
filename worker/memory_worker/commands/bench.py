"""``memory-worker bench``."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from pydantic import SecretStr
from rich.progress import Progress

from memory_worker.bench.options import EXTRAS, PEERS, PHASES, Options
from memory_worker.bench.report import print_report
from memory_worker.bench.run import Found, measure
from memory_worker.commands import interrupts
from memory_worker.commands.interrupts import temporary_directory
from memory_worker.commands.session import in_loop, quiet_settings, reported
from memory_worker.runtime.wiring import engines_where_unset
from memory_worker.settings import Settings, load_settings
from memory_worker.terminal import open_console, open_progress
from memory_worker.wire.primaries import HASH_TAG

_Command = TypeVar("_Command", bound=Callable[..., Any])

_CLEAN_UP_S = 1.5
_LONGEST_PREFIX = 48
"""With what follows it, a prefix may have 64 characters."""
_LONGEST_TAG = _LONGEST_PREFIX - 2
_COUNT: Final = click.IntRange(min=1)
_AMOUNT: Final = click.FloatRange(min=0)
_TIME: Final = click.FloatRange(min=0, min_open=True)
_PHASE: Final = click.Choice((*PHASES, *PEERS, *EXTRAS))
_SERVERS: Final = {"redis_url", "qdrant_url"}


class _Several(click.ParamType[Any]):
    """Numbers separated by commas."""

    name = "numbers"

    def __init__(self, each: click.ParamType[Any]) -> None:
        self._each = each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of numbers."""
        texts = value.split(",") if isinstance(value, str) else value
        return tuple(self._each.convert(text, param, ctx) for text in texts)


def _option(name: str, type_: click.ParamType[Any], meaning: str) -> Callable[[_Command], _Command]:
    """Return an option whose name and default are those of a field of `Options`."""
    default = getattr(Options(), name)
    if isinstance(default, tuple):
        default = ",".join(f"{number:g}" for number in default)
    return click.option(f"--{name.replace('_', '-')}", default=default, type=type_, show_default=True, help=meaning)


@click.command()
@_option("points", _COUNT, "Points that are stored before anything is measured.")
@_option("users", _COUNT, "Users that the points belong to.")
@click.option("--dimension", type=_COUNT, help="Dimension of the vectors; default: QDRANT_VECTOR_DIMENSION.")
@_option("seed", click.INT, "Seed of the data.")
@_option("rounds", _COUNT, "Rounds; the report shows their medians.")
@_option("jobs", _COUNT, "Writes to drain in each round.")
@_option("calls", _COUNT, "Calls of one caller for each latency; many callers make up to ten times as many.")
@_option("concurrency", _Several(_COUNT), "Numbers of callers, in measurements with many callers.")
@_option("ingest_processes", _COUNT, "Ingest processes that also drain the backlog together.")
@_option("seconds", _TIME, "Longest time for many callers, and for searches during an ingest.")
@_option("rates", _Several(_TIME), "Calls per second of the open loops of the equal load.")
@_option("delay_ms", _AMOUNT, "Add this delay between the callers, the workers and both servers, each way.")
@_option("store_delay_ms", _AMOUNT, "Time for which the stand-in for Qdrant of no-store waits before each answer.")
@click.option("--peers", is_flag=True, help=f"Also measure what an app would use instead: {', '.join(PEERS)}.")
@click.option(
    "--also", multiple=True, type=_PHASE, help=f"Also measure this, such as {' or '.join(EXTRAS)}; repeatable."
)
@click.option("--only", multiple=True, type=_PHASE, help="Measure only this; repeatable.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def bench(*, dimension: int | None, json_file: Path | None, **chosen: Any) -> None:
    """Measure pushes, drains, searches and more on the configured servers, or on embedded engines.

    The benchmark uses its own key prefix and its own collections, and removes them afterwards. It exits with 1 if a
    call failed or a write was lost, because then the figures are wrong.
    """
    with reported(), temporary_directory("memory-worker-bench-") as directory:
        dimensions = {} if dimension is None else {"qdrant_vector_dimension": dimension}
        own = own_names(load_settings().queue_prefix)
        settings = quiet_settings(**own, **dimensions)
        placed = settings.model_copy(update={"data_dir": Path(directory)})
        console = open_console(stderr=True)
        with open_progress(console) as progress:
            found = _found(placed, Options(**chosen), progress, changed_settings(settings, own))
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        print_report(found, open_console())
        sys.exit(1 if found.problems else 0)


def _found(settings: Settings, options: Options, progress: Progress, changed: Mapping[str, str]) -> Found:
    """Measure on the servers of these settings, or on engines in the temporary place."""
    embedded = settings.qdrant_url is None
    elsewhere = not embedded and settings.redis_url is not None
    with engines_where_unset(settings) as wired:
        run = partial(measure, wired, options, progress, embedded=embedded, changed=changed)
        return in_loop(lambda: _measured(run, elsewhere=elsewhere))


async def _measured(run: Callable[[], Awaitable[Found]], *, elsewhere: bool) -> Found:
    """Measure; on servers elsewhere, a signal ends all processes and leaves time to clean up there."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine is run by one

    def stop() -> None:
        interrupts.kill_children()
        loop.call_soon_threadsafe(task.cancel)

    with interrupts.gently(stop, within_s=_CLEAN_UP_S) if elsewhere else nullcontext():
        return await run()


def changed_settings(settings: Settings, own: Container[str]) -> dict[str, str]:
    """Return the settings that are not the default, by their variables, without secrets and those in ``own``."""
    found = {name: getattr(settings, name) for name in sorted(settings.model_fields_set - _SERVERS) if name not in own}
    return {
        name.upper(): str(value)
        for name, value in found.items()
        if value != type(settings).model_fields[name].default and not isinstance(value, SecretStr)
    }


def own_names(prefix: str) -> dict[str, Any]:
    """Return settings under which a benchmark touches no other data, and is held back by no limit of the queue.

    Its keys and collections are named after the ``QUEUE_PREFIX`` of the deployment that it runs beside.
    """
    tag = HASH_TAG.search(prefix)
    start = f"{{{tag[1][:_LONGEST_TAG]}}}" if tag else prefix[:_LONGEST_PREFIX]
    name = f"{start}-bench-{secrets.token_hex(4)}"
    collection = re.sub(r"[{}.]", "-", name).strip("-")  # these may be in a prefix only
    return {
        "queue_prefix": name,
        "kinds_file": None,  # it may name the collections of the deployment
        "qdrant_memories_collection": f"{collection}-m",
        "qdrant_documents_collection": f"{collection}-d",
        "queue_max_jobs": 0,
        "queue_max_bytes": 0,
        "port": 0,
        "bind_host": "127.0.0.1",
    }
