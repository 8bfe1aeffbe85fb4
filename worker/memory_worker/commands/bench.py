"""``memory-worker bench``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import Progress

from memory_worker.bench.command_line import bench_options, options
from memory_worker.bench.options import Options
from memory_worker.bench.place import own_names
from memory_worker.bench.report import Report, report
from memory_worker.bench.report_tables import markdown, print_report
from memory_worker.bench.run import Found, measure
from memory_worker.commands import interrupts
from memory_worker.commands.interrupts import temporary_directory
from memory_worker.commands.session import in_loop, quiet_settings, reported
from memory_worker.runtime.wiring import engines_where_unset
from memory_worker.settings import Settings, load_settings
from memory_worker.terminal import open_console

_CLEAN_UP_S = 1.5


@click.command()
@bench_options
def bench(*, dimension: int | None, json_file: Path | None, as_markdown: bool, **chosen: Any) -> None:
    """Measure pushes, drains, searches and more on the configured servers, or on embedded engines.

    The benchmark uses its own key prefix and its own collections, and removes them afterwards. It exits with 1 if a
    call failed or a write was lost, because then the figures are wrong.
    """
    with reported(), temporary_directory("memory-worker-bench-") as directory:
        wanted = options(**chosen)
        dimensions = {} if dimension is None else {"qdrant_vector_dimension": dimension}
        settings = quiet_settings(**own_names(load_settings().queue_prefix), **dimensions)
        placed = settings.model_copy(update={"data_dir": Path(directory)})
        console = open_console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            found = _report(placed, wanted, progress)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        if as_markdown:
            click.echo(markdown(found))
        else:
            print_report(found, open_console())
        sys.exit(1 if found.errors else 0)


def _report(settings: Settings, wanted: Options, progress: Progress) -> Report:
    """Measure on the servers of these settings, or on engines in the temporary place."""
    embedded = settings.qdrant_url is None
    elsewhere = not embedded and settings.redis_url is not None
    with engines_where_unset(settings) as wired:
        return report(in_loop(lambda: _measured(wired, wanted, progress, embedded=embedded, elsewhere=elsewhere)))


async def _measured(
    settings: Settings, wanted: Options, progress: Progress, *, embedded: bool, elsewhere: bool
) -> Found:
    """Measure; on servers elsewhere, a signal ends all processes and leaves time to clean up there."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine is run by one

    def stop() -> None:
        interrupts.kill_children()
        loop.call_soon_threadsafe(task.cancel)

    with interrupts.gently(stop, within_s=_CLEAN_UP_S) if elsewhere else nullcontext():
        return await measure(settings, wanted, progress, embedded=embedded)
