"""What processes use, as Linux tells it: CPU time and memory; and which process serves a URL on this machine."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

_PROC = Path("/proc")
_MIB = 2**20
_SAMPLE_S = 0.1
_LISTENING = "0A"
_HANDS_ON = "docker-proxy"
_UTIME, _STIME = 11, 12
"""Where a process's own CPU times stand in ``/proc/PID/stat``, counted behind its name."""


class Memory(msgspec.Struct, frozen=True):
    """Memory of a process in MiB: the peak of what was resident, and its fair share of it (PSS) in the end."""

    rss_peak_mib: float
    pss_mib: float | None


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used so far, in seconds, by ticks of 10 ms; 0 where that is not told."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Return what a process has resident, in MiB; 0 where that is not told."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def pss_mib(pid: int) -> float | None:
    """Return a process's fair share of what it has resident, in MiB; ``None`` where that is not told."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")]
    return found[0] if found else None


@asynccontextmanager
async def watched(pids: Mapping[str, int]) -> AsyncIterator[dict[str, Memory]]:
    """Watch the memory of processes during the block; what is yielded is filled in at its end."""
    found: dict[str, Memory] = {}
    peaks = dict.fromkeys(pids, 0.0)

    async def sample() -> None:
        while True:
            for name, pid in pids.items():
                peaks[name] = max(peaks[name], rss_mib(pid))
            await asyncio.sleep(_SAMPLE_S)

    sampling = asyncio.create_task(sample())
    try:
        yield found
        for name, pid in pids.items():
            found[name] = Memory(max(peaks[name], rss_mib(pid)), pss_mib(pid))
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


def serving(url: str) -> int | None:
    """Return the process on this machine that listens where ``url`` leads; ``None``: none that we may see."""
    parts = urlsplit(url)
    if not parts.port or not parts.hostname or not _is_loopback(parts.hostname):
        return None
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(parts.port)}
    for process in _PROC.iterdir():
        if process.name.isdigit() and _holds(process, sockets) and _name(process) != _HANDS_ON:
            return int(process.name)
    return None


def _is_loopback(host: str) -> bool:
    try:
        return socket.gethostbyname(host).startswith("127.")
    except OSError:
        return False


def _listening_inodes(port: int) -> list[str]:
    found = []
    for table in (_PROC / "net" / "tcp", _PROC / "net" / "tcp6"):
        with suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    found.append(rest[5])
    return found


def _holds(process: Path, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(encoding="utf-8").strip()
    return ""
