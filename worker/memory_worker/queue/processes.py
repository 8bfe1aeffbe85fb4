"""Which worker processes live: each says so every second, and is forgotten when it has not for a few seconds.

The key of a process (``mw:process:{id}``) is for scripts, which ask whether one process lives. The list
(``mw:processes``) is for people, who ask which do.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from redis.asyncio import Redis

from memory_worker.contract.errors import QueueError
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys

TTL_S = 5.0
"""How long a process that was killed still counts as living."""
_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process; ``id`` is made anew at each start, ``pid`` is its process id on ``host``."""

    id: str
    role: str
    host: str
    pid: int


async def beat(redis: Redis, keys: Keys, process_id: str, role: str, ttl_s: float = TTL_S) -> None:
    """Record that this process lives, for ``ttl_s`` seconds; works in a full Redis. Raises `QueueError`."""
    with queue_request("beat"):
        await scripts.run(
            redis,
            "beat",
            [keys.processes, keys.process(process_id)],
            [_member(process_id, role), role, round(ttl_s * 1000)],
        )


async def keep_beating(redis: Redis, keys: Keys, process_id: str, role: str) -> NoReturn:
    """Record every second that this process lives, after the first time, until cancelled.

    A failing Redis is left to those who report it: here the next second tries again.
    """
    while True:
        await asyncio.sleep(_INTERVAL_S)
        with suppress(QueueError):
            await beat(redis, keys, process_id, role)


async def leave(redis: Redis, keys: Keys, process_id: str, role: str) -> None:
    """Remove this process, which ends in good order and holds nothing any more. Raises `QueueError`."""
    with queue_request("leave"):
        async with redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.process(process_id))
            pipe.zrem(keys.processes, _member(process_id, role))
            await pipe.execute()


async def living(redis: Redis, keys: Keys) -> list[Process]:
    """Return the processes that live, in no order. Raises `QueueError`."""
    with queue_request("processes"):
        seconds, microseconds = await redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        members = await redis.zrangebyscore(keys.processes, f"({now_ms}", "+inf")
    return [process for member in members if (process := _process(member)) is not None]


def _member(process_id: str, role: str) -> str:
    host = "".join(socket.gethostname().split())
    return f"{process_id} {role} {host} {os.getpid()}"


def _process(member: bytes) -> Process | None:
    """Return what a member of the list says; ``None`` where another version wrote it in another form."""
    match member.decode(errors="replace").split():
        case [process_id, role, host, pid] if pid.isdecimal():
            return Process(process_id, role, host, int(pid))
    return None
