"""Runs commands in the process of the tests. A separate process takes a second or two to load."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from memory_worker.commands.main import main


def invoked(*arguments: str, given: str = "", **environment: str) -> Result:
    """Run a command with this standard input; return its result. It must raise no exception."""
    variables = {"COLUMNS": "160", **environment}
    with _logs_kept():
        done = CliRunner().invoke(main, arguments, input=given, env=variables, prog_name="memory-worker")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def run_here(*arguments: str, status: int = 0, **environment: str) -> str:
    """Run a command, which must end with this status; return what it prints, with its errors if it fails."""
    done = invoked(*arguments, **environment)
    assert done.exit_code == status, f"{done.exit_code}\n{done.output}"
    return done.stdout if status == 0 or "--json" in arguments else done.output


@contextmanager
def _logs_kept() -> Iterator[None]:
    """Undo what a command does to the logs of its process."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, ("arq", "uvicorn")))}
    handlers, root.handlers = root.handlers, []  # those of pytest would be closed
    try:
        yield
    finally:
        root.handlers = handlers
        for logger, level in levels.items():
            logger.setLevel(level)
