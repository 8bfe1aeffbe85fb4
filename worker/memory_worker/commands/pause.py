"""``memory-worker pause``."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time

import click
from redis.asyncio import Redis

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.contract.errors import NotPaused
from memory_worker.queue.pausing import leased_partitions, pause_queue
from memory_worker.terminal import foreign, open_console
from memory_worker.wire.keys import Keys

_LOOK_AGAIN_S = 0.05
_MAX_TEXT = 200


@click.command()
@click.option("--reason", default="", help="Why: `memory-worker status` shows it.")
@click.option(
    "--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait for the batches in flight."
)
def pause(*, reason: str, timeout_s: float) -> None:
    """Let workers apply no writes, until `memory-worker resume`.

    Pushes succeed, up to the limits of the queue, and reads are answered. Return once the batches in flight are
    applied: from then on workers write no points to Qdrant. The pause holds for all workers, also for those that start
    later. Pausing again changes nothing but the reason.

    Exit with 1 if batches are still in flight after the timeout. The pause stays in force.
    """
    with reported(), servers(("redis",), to_stderr=True) as settings:
        keys = Keys(settings.queue_prefix)
        shown = with_redis(settings, lambda redis: _paused(redis, keys, reason[:_MAX_TEXT], timeout_s))
        console = open_console()
        console.print(foreign(shown, console), soft_wrap=True)


async def _paused(redis: Redis, keys: Keys, reason: str, timeout_s: float) -> str:
    """Pause, and wait for the batches in flight. Return the pause as text. Raises `NotPaused`."""
    until = time.monotonic() + timeout_s
    pause = await pause_queue(redis, keys, by=_author(), reason=reason)
    while leased := await leased_partitions(redis, keys):
        if time.monotonic() > until:
            raise NotPaused(leased)
        await asyncio.sleep(_LOOK_AGAIN_S)
    return str(pause)


def _author() -> str:
    """Return the user and the host, such as ``root@ingest-1``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:_MAX_TEXT]
