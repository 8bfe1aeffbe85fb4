"""Runs a module of this package in another Python process that imports the same packages as this process.

The child gets the import path of this process, without the working directory, because an app may have its own
``redis.py`` there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SOURCE_ROOT = str(Path(__file__).resolve().parents[2])

ENDS_WITH_OWNER = (
    "import os, threading; "
    "threading.Thread(target=lambda: os.read(0, 1) or os.kill(os.getpid(), 15), daemon=True).start(); "
)
"""Code to run ``first`` in a child whose standard input is a pipe that its owner holds. Then the child ends with its
owner, even if that is killed."""


def python_command(module: str, arguments: Sequence[str], *, first: str = "") -> list[str]:
    """Return the command line that runs ``module`` as ``python -m`` does; ``first`` is code that runs before."""
    program = (
        f"import sys; sys.path[:] = {import_path()!r}; {first}"
        "from memory_worker.messages_only import import_messages_only; import_messages_only(); "
        f"from runpy import run_module; run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-P", "-c", program, *arguments]


def import_path() -> list[str]:
    """Return the import path of this process, with the root of this package, without the working directory."""
    kept = [entry for entry in sys.path if entry == SOURCE_ROOT or not _is_working_directory(entry)]
    return kept if SOURCE_ROOT in kept else [*kept, SOURCE_ROOT]


def _is_working_directory(entry: str) -> bool:
    with suppress(OSError):  # either may not exist
        return Path(entry).samefile(Path())
    return False
