"""The child processes of a benchmark, and the CPU time and memory of processes as Linux reports them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast
from urllib.parse import urlsplit

import msgspec

from memory_worker.bench.loops import Figure, Task
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.embedded.interpreter import ENDS_WITH_OWNER, python_command
from memory_worker.settings import Settings, child_environment

_TIMEOUT_S, _POLL_S, _TAIL_LINES = 30.0, 0.02, 20
_TROUBLE = re.compile(r"^\S+ (?:warning|error|critical) +(\S+)", re.MULTILINE)
_LISTENING, _PASSES_ON = "0A", "docker-proxy"
_CPU_CLOCK = 2
"""With the id of a process, it makes the id of the clock of its CPU time, as ``clock_getcpuclockid`` of Linux does."""


class Process:
    """A child process. After it has ended, ``troubles`` has the events of the warnings and errors in its log.

    ``peak_mib`` is its peak resident memory, with mapped files. ``variables`` are added to its environment.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        module: str,
        *arguments: str,
        leash: str = ENDS_WITH_OWNER,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.troubles: list[str] = []
        self.peak_mib = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        # Not asyncio's own: uvloop forks, and gRPC warns of every fork.
        self._process = subprocess.Popen(  # noqa: S603  # the command is ours
            python_command(module, arguments, first=leash),
            env={**child_environment(settings), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C in a terminal is for the benchmark, which ends its children
        )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether `end` was not called yet."""
        return not self._log.closed

    async def ready(self, sign: str = "ready") -> str:
        """Wait for a line with ``sign`` in its log, and return it. Raises `MemoryWorkerError` if it ends before."""
        async with asyncio.timeout(_TIMEOUT_S):
            while self._process.poll() is None:
                if found := re.search(rf"^.*{sign}.*\n", self.logged(), re.MULTILINE):
                    return found[0]
                await asyncio.sleep(_POLL_S)
        raise MemoryWorkerError(f"a process did not start: {self._tail()}")

    async def carry_out(self, task: Task) -> Figure:
        """Let this process, a caller, run a task. Raises `MemoryWorkerError` if the process ends."""
        tasks, figures = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        tasks.write(msgspec.json.encode(task) + b"\n")
        tasks.flush()
        line = await asyncio.to_thread(figures.readline)
        if not line:
            raise MemoryWorkerError(f"a process ended: {self._tail()}")
        return msgspec.json.decode(line, type=Figure)

    def pause(self, paused: bool) -> None:
        """Stop the process, or let it go on."""
        self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    async def end(self) -> None:
        """Terminate the process, and kill it if it does not end in time."""
        if not self.is_running:
            return
        self.peak_mib = memory_mib(self.pid, peak=True)
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.troubles = ["a process had to be killed"]
        self.troubles += _TROUBLE.findall(self.logged())
        for file in (self._process.stdin, self._process.stdout, self._log):
            cast("IO[bytes]", file).close()

    def logged(self) -> str:
        """Return the log so far."""
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def _tail(self) -> str:
        return " ".join(self.logged().splitlines()[-_TAIL_LINES:])


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds; 0 if it cannot be read."""
    with suppress(OSError):
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK)
    return 0.0


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process with mapped files, now or its ``peak``; 0 if it cannot be read."""
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+)", read_text(f"/proc/{pid}/status"))
    return int(found[1]) / 1024 if found else 0.0


def urls(settings: Settings) -> dict[str, str]:
    """Return the addresses of the servers."""
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    return {"Redis": redis_url, "Qdrant": settings.qdrant_url or ""}


def serving(url: str) -> int | None:
    """Return the id of the local process that listens at ``url``, or ``None`` if it is remote or cannot be read."""
    if url.partition("+")[0] in ("redis", "rediss"):
        return None  # it is the address of a Sentinel, or of any node of a cluster
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return None
    lines = [line.split() for table in ("tcp", "tcp6") for line in read_text(f"/proc/net/{table}").splitlines()[1:]]
    listening = [line for line in lines if line[3] == _LISTENING and int(line[1].rpartition(":")[2], 16) == parts.port]
    sockets = {f"socket:[{line[9]}]" for line in listening}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            pid = descriptor.parts[2]
            if str(descriptor.readlink()) in sockets and read_text(f"/proc/{pid}/comm").strip() != _PASSES_ON:
                return int(pid)
    return None


def read_text(path: str) -> str:
    """Return the text of a file, or an empty string if it cannot be read."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
