"""The worker processes that are alive. Each sends a heartbeat every second, and is removed after some are missing.

A process has a key (``mw:process:{id}``), by which scripts check whether it is alive. It is also in a list
(``mw:processes``), from which people can see all processes. Every few seconds it reports what it has done
(``mw:process:{id}:report``). Processes of older versions report nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from redis.asyncio import Redis

from memory_worker.contract.errors import QueueError
from memory_worker.queue.scripts import scripts
from memory_worker.wire.clock import redis_time_ms
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

TTL_S = 5.0
"""How long a process that was killed still counts as alive."""
_INTERVAL_S = 1.0
_BEATS_PER_REPORT = 5
_REPORT_LIFE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process. ``id`` is new at each start. ``pid`` is the process id on ``host``."""

    id: str
    role: str
    host: str
    pid: int


async def beat(redis: Redis, keys: Keys, process_id: str, role: str, ttl_s: float = TTL_S) -> None:
    """Record that this process is alive for ``ttl_s`` seconds. Works even if Redis is full. Raises `QueueError`."""
    with queue_request("beat"):
        await scripts.run(
            redis,
            "beat",
            [keys.processes, keys.process(process_id)],
            [_member(process_id, role), role, round(ttl_s * 1000)],
        )


async def keep_beating(
    redis: Redis, keys: Keys, process_id: str, role: str, make_report: Callable[[], bytes] | None = None
) -> NoReturn:
    """Send a heartbeat every second until cancelled, and a report every few seconds. The first is sent after a second.

    Errors are ignored, because other tasks report a failing Redis. The next heartbeat tries again.
    """
    beats = 0
    while True:
        await asyncio.sleep(_INTERVAL_S)
        with suppress(QueueError):
            await beat(redis, keys, process_id, role)
            if make_report is not None and beats % _BEATS_PER_REPORT == 0:
                with queue_request("report"):
                    await redis.set(keys.process_report(process_id), make_report(), px=_REPORT_LIFE_MS)
        beats += 1


async def reports(redis: Redis, keys: Keys, process_ids: Sequence[str]) -> list[bytes | None]:
    """Return the latest report of each process, or ``None`` if there is none. Raises `QueueError`."""
    with queue_request("reports"):
        async with redis.pipeline(transaction=False) as pipe:
            for process_id in process_ids:
                pipe.get(keys.process_report(process_id))
            return await pipe.execute() if process_ids else []


async def leave(redis: Redis, keys: Keys, process_id: str, role: str) -> None:
    """Remove this process when it ends normally. Raises `QueueError`."""
    with queue_request("leave"):
        async with redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.process(process_id), keys.process_report(process_id))
            pipe.zrem(keys.processes, _member(process_id, role))
            await pipe.execute()


async def living(redis: Redis, keys: Keys) -> list[Process]:
    """Return the processes that are alive, in any order. Raises `QueueError`."""
    with queue_request("processes"):
        now_ms = await redis_time_ms(redis)
        members = await redis.zrangebyscore(keys.processes, f"({now_ms}", "+inf")
    return [process for member in members if (process := _process(member)) is not None]


def _member(process_id: str, role: str) -> str:
    host = "".join(socket.gethostname().split())
    return f"{process_id} {role} {host} {os.getpid()}"


def _process(member: bytes) -> Process | None:
    """Parse a member of the list. Return ``None`` if another version has written it in another form."""
    match member.decode(errors="replace").split():
        case [process_id, role, host, pid] if pid.isdecimal():
            return Process(process_id, role, host, int(pid))
    return None
