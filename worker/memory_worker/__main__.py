"""``memory-worker``, and ``python -m memory_worker``."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from memory_worker.interpreter import import_path
from memory_worker.library_variables import hide_from_libraries


def main() -> None:
    """Run the command line."""
    # The first process of a container ignores a signal that it has no handler for, and loading takes a second or two.
    signal.signal(signal.SIGTERM, _end)
    hide_from_libraries(os.environ)
    from memory_worker.cli import main as run  # noqa: PLC0415  # after the handler, because it is what takes the time

    run(prog_name="memory-worker")


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.path[:] = import_path()  # python -m puts the working directory in front
    main()
