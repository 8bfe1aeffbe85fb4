"""A child process that reports when it is ready, and that ends with its owner.

The standard input of the child is a pipe, the lifeline. Only the owner has its write end. When the owner ends, even by
``kill -9``, the pipe is closed, and then the child ends. The child writes ``ready PORT`` to its standard output. Its
standard error is a log file.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory_worker.contract.errors import EmbeddedEngineError
from memory_worker.embedded.interpreter import python_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import RawIOBase
    from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0  # more than the 5 s that a child gives its own child processes
_LOG_TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Child:
    """A child process that serves on ``port`` while ``lifeline`` is open."""

    process: subprocess.Popen[bytes]
    lifeline: RawIOBase
    port: int

    @property
    def pid(self) -> int:
        """The id of the process and of its session."""
        return self.process.pid

    def stop(self) -> None:
        """Let the child end, and kill it if it does not."""
        _end(self.process, self.lifeline)


def _end(process: subprocess.Popen[bytes], lifeline: RawIOBase) -> None:
    lifeline.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_child(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    pass_fds: Sequence[int] = (),
    timeout_s: float = START_TIMEOUT_S,
) -> Child:
    """Run ``module`` as ``python -m`` does, and wait until it is ready.

    Raises `EmbeddedEngineError`, with the end of its log, if it ends or is not ready after ``timeout_s`` seconds.
    """
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    process, lifeline, readiness = _spawn(python_command(module, arguments), log, pass_fds)
    try:
        return Child(process, lifeline, _ready_port(readiness, timeout_s))
    except _NotReady as error:
        _end(process, lifeline)
        raise EmbeddedEngineError(f"{module} {error}; end of {log}:\n{_tail(log)}") from None
    finally:
        os.close(readiness)


def _spawn(
    command: Sequence[str], log: Path, pass_fds: Sequence[int]
) -> tuple[subprocess.Popen[bytes], RawIOBase, int]:
    """Return the process, its lifeline, and the descriptor of its standard output."""
    stdin, lifeline = os.pipe()  # other child processes do not inherit these
    readiness, stdout = os.pipe()
    try:
        with log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own module, run by our own interpreter
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C in a terminal must reach only the owner
            )
    except BaseException:
        os.close(lifeline)
        os.close(readiness)
        raise
    finally:
        os.close(stdin)
        os.close(stdout)
    return process, os.fdopen(lifeline, "wb", buffering=0), readiness


class _NotReady(Exception):
    """The child is not ready; the message says why."""


def _ready_port(readiness: int, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([readiness], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise _NotReady(f"was not ready after {timeout_s:g} s")
        received = os.read(readiness, 100)
        if not received:
            raise _NotReady("ended while it started")
        line += received
    return int(line.removeprefix(b"ready "))


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
