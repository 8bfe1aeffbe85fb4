"""The worker processes of a queue: who they are, and what each has done. Each of them reports it to Redis."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from memory_worker import __version__
from memory_worker.queue.processes import Process, living, reports
from memory_worker.telemetry.counters import Counters, counters
from memory_worker.wire.keys import Keys

_STATM = Path("/proc/self/statm")


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process reports about itself. ``started_s`` is in unix seconds. ``memory_bytes`` 0 is unknown."""

    version: str
    started_s: float
    memory_bytes: int = 0
    counters: Counters = Counters()


class Member(msgspec.Struct, frozen=True):
    """A process that is alive. Processes of older versions have no report."""

    process: Process
    report: Report | None


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Report)


class Reporter:
    """Makes the reports of this process."""

    def __init__(self) -> None:
        self._started_s = time.time()

    def __call__(self) -> bytes:
        """Return the report of now, encoded."""
        return _encode(Report(__version__, self._started_s, _memory_bytes(), counters()))


async def fleet(redis: Redis, keys: Keys) -> list[Member]:
    """Return the processes that are alive, by host and process id. Raises `QueueError`."""
    processes = sorted(await living(redis, keys), key=lambda one: (one.host, one.pid, one.id))
    found = await reports(redis, keys, [process.id for process in processes])
    return [Member(process, _decoded(report)) for process, report in zip(processes, found, strict=True)]


def _decoded(report: bytes | None) -> Report | None:
    try:
        return _decoder.decode(report) if report else None
    except msgspec.DecodeError:  # of another version
        return None


def _memory_bytes() -> int:
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not on Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
