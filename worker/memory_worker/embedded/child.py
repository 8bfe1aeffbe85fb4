"""A child process that says when it is ready, and ends with its owner.

The child holds the read end of a pipe whose only write end is here, as its standard input. However the owner ends,
``kill -9`` included, the pipe ends with it, and the child ends on that. It says ``ready PORT`` on its standard
output; its standard error goes to a log file.
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
STOP_TIMEOUT_S = 8.0  # above the 5 s that a child gives what it runs itself
_LOG_TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Child:
    """A child process that serves on ``port``, for as long as ``leash`` is open."""

    process: subprocess.Popen[bytes]
    leash: RawIOBase
    port: int

    @property
    def pid(self) -> int:
        """Its process id, and that of its session."""
        return self.process.pid

    def stop(self) -> None:
        """Let the child end; kill it when it does not."""
        _end(self.process, self.leash)


def _end(process: subprocess.Popen[bytes], leash: RawIOBase) -> None:
    leash.close()
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
    """Run ``module`` as ``python -m`` does and wait until it is ready.

    Raises:
        EmbeddedEngineError: it ended, or was not ready after ``timeout_s`` seconds; with the tail of its log.
    """
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    process, leash, readiness = _spawn(python_command(module, arguments), log, pass_fds)
    try:
        return Child(process, leash, _ready_port(readiness, timeout_s))
    except _NotReady as error:
        _end(process, leash)
        raise EmbeddedEngineError(f"{module} {error}; end of {log}:\n{_tail(log)}") from None
    finally:
        os.close(readiness)


def _spawn(
    command: Sequence[str], log: Path, pass_fds: Sequence[int]
) -> tuple[subprocess.Popen[bytes], RawIOBase, int]:
    """Return the process, the pipe that keeps it alive, and the descriptor to read its readiness from."""
    stdin, leash = os.pipe()  # no other child inherits these ends
    readiness, stdout = os.pipe()
    try:
        with log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own module, run by our own interpreter
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C in a terminal is for the owner alone
            )
    except BaseException:
        os.close(leash)
        os.close(readiness)
        raise
    finally:
        os.close(stdin)
        os.close(stdout)
    return process, os.fdopen(leash, "wb", buffering=0), readiness


class _NotReady(Exception):
    """What happened instead."""


def _ready_port(readiness: int, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([readiness], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise _NotReady(f"was not ready after {timeout_s:g} s")
        received = os.read(readiness, 100)
        if not received:
            raise _NotReady("ended at its start")
        line += received
    return int(line.removeprefix(b"ready "))


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
