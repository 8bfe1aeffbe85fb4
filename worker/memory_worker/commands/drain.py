"""``memory-worker drain``."""

from __future__ import annotations

import asyncio
import sys
import time

import click
from redis.asyncio import Redis
from rich.console import Console

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.inspection.draining import DrainWatch, Remaining
from memory_worker.terminal import foreign, open_console, open_progress
from memory_worker.wire.keys import Keys

_LOOK_AGAIN_S = 0.2
_MOST_PARTITIONS = 8


@click.command()
@click.option("--wait", is_flag=True, help="Wait until nothing waits. Without it, only look once.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Most seconds to wait. Default: no limit.")
@click.option("--empty", is_flag=True, help="Count all jobs, also those that are pushed after the command began.")
def drain(*, wait: bool, timeout_s: float | None, empty: bool) -> None:
    """Wait until the workers have applied what waits.

    By default the jobs count that were pushed before the command began: it ends once each of them is applied or is a
    dead letter, even if producers go on. With --empty it ends at a moment in which no job waits and no batch is in
    flight. Stop the producers first, or it may take for ever. Writes of arq's own client count, too, also those that
    are due later.

    Exit with 0 only if nothing waits. Exit with 1 after the timeout, or at once if nothing can be applied: the queue is
    paused, no worker runs, or all partitions that are left are held for other workers.
    """
    with reported(), servers(("redis",), to_stderr=True) as settings:
        keys = Keys(settings.queue_prefix)
        until = time.monotonic() + (timeout_s if timeout_s is not None else float("inf")) if wait else 0.0
        left = with_redis(settings, lambda redis: _wait(redis, keys, until, everything=empty))
        _print(left, open_console(), timed_out=wait and not left.obstacles)
        sys.exit(0 if left.is_nothing else 1)


async def _wait(redis: Redis, keys: Keys, until: float, *, everything: bool) -> Remaining:
    """Return what still waits at the monotonic time ``until``, or once nothing waits or nothing can be applied."""
    watch = await DrainWatch.start(redis, keys, everything=everything)
    with open_progress(open_console(stderr=True)) as progress:
        left = await watch.look()
        task = progress.add_task("waiting", total=left.total)
        while not (left.is_nothing or left.obstacles) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_AGAIN_S)
            left = await watch.look()
            most = max(left.total, progress.tasks[task].total or 0)
            progress.update(task, total=most, completed=most - left.total, description=f"{left.total:,} wait")
    return left


def _print(left: Remaining, console: Console, *, timed_out: bool) -> None:
    dead = f"; {_counted(left.dead, 'dead letter')}" if left.dead else ""
    if left.is_nothing:
        console.print(f"nothing waits{dead}")
        return
    arq_writes = f", {_counted(left.arq_writes, 'write')} of arq's own client" if left.arq_writes else ""
    leases = f", {_counted(left.leases, 'partition')} being drained" if left.leases else ""
    jobs = f"waiting: {_counted(sum(left.jobs.values()), 'job')}{_places(left.jobs)}"
    console.print(f"{jobs}{arq_writes}{leases}{dead}", soft_wrap=True)
    for partition, needs in left.held.items():
        console.print(f"partition {partition} is held: needs {foreign(needs, console)}", soft_wrap=True)
    for obstacle in left.obstacles:
        console.print(f"[yellow]nothing can be applied:[/] {foreign(obstacle, console)}", soft_wrap=True)
    if timed_out:
        console.print("[yellow]gave up after the timeout[/]")


def _places(jobs: dict[int, int]) -> str:
    shown = ", ".join(map(str, [*jobs][:_MOST_PARTITIONS]))
    more = ", ..." if len(jobs) > _MOST_PARTITIONS else ""
    return f" in {_counted(len(jobs), 'partition')} ({shown}{more})" if jobs else ""


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
