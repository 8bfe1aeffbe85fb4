"""``memory-worker demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from memory_worker.commands.interrupts import temporary_directory
from memory_worker.commands.session import quiet_settings, reported
from memory_worker.demo.processes import SETTINGS
from memory_worker.demo.story import tell
from memory_worker.terminal import open_console


@click.command()
@click.option("--answers", is_flag=True, help="Show the answers to all questions, not only to some.")
def demo(*, answers: bool) -> None:
    """Kill Qdrant and the worker while an app writes, then check that every point is as the app asked.

    It has its own engines in a temporary directory, and takes about 15 seconds. Exit with 1 if a point or an answer is
    wrong.
    """
    console = open_console()
    with reported(), temporary_directory("memory-worker-demo-") as directory:
        settings = quiet_settings(**{**SETTINGS, "data_dir": Path(directory)})
        right = tell(settings, console, all_answers=answers)
    sys.exit(0 if right else 1)
