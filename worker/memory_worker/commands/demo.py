"""``memory-worker demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from memory_worker.commands.interrupts import temporary_directory
from memory_worker.commands.session import in_loop, quiet_settings, reported
from memory_worker.demo.dataset import DIMENSION
from memory_worker.demo.tour import tour
from memory_worker.runtime.wiring import engines_where_unset
from memory_worker.terminal import open_console


@click.command()
def demo() -> None:
    """Show the whole system with real sentences, on embedded engines in a temporary directory.

    Exit with 1 if an answer is wrong.
    """
    console = open_console()
    with reported(), temporary_directory("memory-worker-demo-") as directory:
        settings = quiet_settings(
            data_dir=Path(directory),
            kinds_file=None,
            qdrant_vector_dimension=DIMENSION,
            redis_url=None,
            qdrant_url=None,
            port=0,
            bind_host="127.0.0.1",
        )
        console.print("starting Valkey and the vector engine in a temporary directory ...")
        with engines_where_unset(settings) as wired:
            right = in_loop(lambda: tour(wired, console))
    sys.exit(0 if right else 1)
