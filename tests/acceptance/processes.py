"""Worker processes and other commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue

COMMAND = (sys.executable, "-m", "memory_worker")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


def run_command(
    *arguments: str,
    status: int = 0,
    timeout_s: float = 90,
    program: Sequence[str] = COMMAND,
    cwd: Path | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command, which must end with this status."""
    done = subprocess.run(
        [*program, *arguments],
        env={**os.environ, "COLUMNS": "160", "PORT": "0", "BIND_HOST": "127.0.0.1", **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class WorkerProcess:
    """A process of ``memory-worker run``; ``lines`` are those that it has logged so far."""

    def __init__(
        self, role: str, environment: Mapping[str, str], *, command: Sequence[str] = COMMAND, cwd: Path | None = None
    ) -> None:
        self.lines: list[str] = []
        self._fresh: Queue[str | None] = Queue()
        self.process = subprocess.Popen(
            [*command, "run", "--role", role],
            env={**os.environ, "LOG_LEVEL": "INFO", "PORT": "0", "BIND_HOST": "127.0.0.1", **environment},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, event: str, timeout_s: float = START_TIMEOUT_S) -> str:
        """Return the next log line of ``event``."""
        while True:
            try:
                line = self._fresh.get(timeout=timeout_s)
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"no {event!r} within {timeout_s} s; logged:\n" + "\n".join(self.lines))
            if f" {event}" in line:
                return line

    def wait_until_stopped(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Return once a failpoint has stopped the process."""
        give_up = time.monotonic() + timeout_s
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            assert time.monotonic() < give_up, "the worker did not stop"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(STOP_TIMEOUT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            self._fresh.put(line.rstrip())
        self._fresh.put(None)
