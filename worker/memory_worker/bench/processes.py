"""The child processes of a benchmark, and the CPU time and memory of processes as Linux reports them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import msgspec

from memory_worker.bench.loops import Figure, Task
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.embedded.interpreter import python_command
from memory_worker.settings import Settings, foreign_variables, secret_file_variables, variables

_TIMEOUT_S, _POLL_S, _TAIL_LINES = 30.0, 0.02, 20
_TROUBLE = re.compile(r"^\S+ (?:warning|error|critical) +(\S+)", re.MULTILINE)
_LEASH = (
    "import os, threading; "
    "threading.Thread(target=lambda: os.read(0, 1) or os.kill(os.getpid(), 15), daemon=True).start(); "
)
"""The benchmark holds the other end of this pipe. So a child ends with the benchmark, even if that is killed."""
_LISTENING, _PASSES_ON = "0A", "docker-proxy"
_UTIME, _STIME = 11, 12
"""The positions of a process's own CPU times in ``/proc/PID/stat``, counted from behind its name."""


class Process:
    """A child process. After it has ended, ``troubles`` has the events of the warnings and errors in its log.

    ``peak_mib`` is its peak resident memory, with mapped files.
    """

    def __init__(self, name: str, settings: Settings, module: str, *arguments: str, leash: str = _LEASH) -> None:
        self.name = name
        self.troubles: list[str] = []
        self.peak_mib = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        # Not asyncio's own: uvloop forks, and gRPC warns of every fork.
        self._process = subprocess.Popen(  # noqa: S603  # the command is ours
            python_command(module, arguments, first=leash),
            env=environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C in a terminal is for the benchmark, which ends its children
        )
        self.pid = self._process.pid

    async def ready(self, sign: str = "ready") -> str:
        """Wait for a line with ``sign`` in its log, and return it. Raises `MemoryWorkerError` if it ends before."""
        async with asyncio.timeout(_TIMEOUT_S):
            while self._process.poll() is None:
                if found := re.search(rf"^.*{sign}.*\n", self._logged(), re.MULTILINE):
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

    async def end(self) -> None:
        """Terminate the process, and kill it if it does not end in time."""
        if self._log.closed:
            return
        self.peak_mib = peak_mib(self.pid)
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.troubles = ["a process had to be killed"]
        self.troubles += _TROUBLE.findall(self._logged())
        for file in (self._process.stdin, self._process.stdout, self._log):
            cast("IO[bytes]", file).close()

    def _logged(self) -> str:
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def _tail(self) -> str:
        return " ".join(self._logged().splitlines()[-_TAIL_LINES:])


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of this process, with these settings replacing its own. It has secrets in plain text."""
    left_out = {*variables(), *secret_file_variables(), *(unknown.name for unknown in foreign_variables())}
    found = {name: value for name, value in os.environ.items() if name not in left_out}
    for name in settings.model_fields_set | {"redis_url", "qdrant_url"}:
        value = getattr(settings, name)
        if value is not None:
            found[name.upper()] = str(getattr(value, "get_secret_value", lambda value=value: value)())
    return {**found, "LOG_LEVEL": "INFO", "LOG_JSON": "false"}


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds, with a resolution of 10 ms; 0 if it cannot be read."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process so far, with mapped files."""
    found = re.search(r"VmHWM:\s*(\d+)", read_text(f"/proc/{pid}/status"))
    return int(found[1]) / 1024 if found else 0.0


def urls(settings: Settings) -> dict[str, str]:
    """Return the addresses of the servers."""
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    return {"Redis": redis_url, "Qdrant": settings.qdrant_url or ""}


def serving(url: str) -> int | None:
    """Return the id of the local process that listens at ``url``, or ``None`` if it is remote or cannot be read."""
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
