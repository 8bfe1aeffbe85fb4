"""``memory-worker discard``."""

from __future__ import annotations

from collections import Counter

import click
from redis.asyncio import Redis
from rich.console import Console

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.queue.discarding import Discarder, check_paused
from memory_worker.queue.positions import Position, read_positions
from memory_worker.settings import Settings
from memory_worker.terminal import Sheet, open_console, open_progress
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta

_Counts = dict[int, Counter[str]]


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def discard(*, yes: bool) -> None:
    """Discard all jobs that wait. They are never applied.

    The queue must be paused. Dead letters stay. Jobs that are pushed after the command began stay, too. The receipts of
    discarded jobs have the state dead, with the reason discarded. Older receipts of their partitions become unknown.
    """
    with reported(), servers(("redis",), to_stderr=True) as settings:
        positions, counts = with_redis(settings, lambda redis: _counted(redis, settings))
        total = sum(count.total() for count in counts.values())
        if not total:
            click.echo("nothing waits")
            return
        _print(counts, open_console())
        if not yes:
            click.confirm(f"{total:,} jobs will never be applied. Go on?", abort=True)
        with_redis(settings, lambda redis: _discarded(redis, settings, positions, total))


async def _opened(redis: Redis, settings: Settings) -> tuple[Discarder, int]:
    """Return the discarder, and the number of partitions."""
    keys = Keys(settings.queue_prefix)
    meta = await read_meta(redis, keys) or QueueMeta()
    return Discarder(redis, keys, meta.partitions, outcomes_max=settings.outcomes_max), meta.partitions


async def _counted(redis: Redis, settings: Settings) -> tuple[list[Position], _Counts]:
    """Return how far the streams reach now, and how many jobs up to there wait by partition and op.

    Raises `NotPaused`.
    """
    keys = Keys(settings.queue_prefix)
    await check_paused(redis, keys)
    discarder, partitions = await _opened(redis, settings)
    positions = await read_positions(redis, keys, partitions)
    counts: _Counts = {}
    with open_progress(open_console(stderr=True)) as progress:
        task = progress.add_task("counting", total=sum(position.waiting for position in positions))
        for number, position in enumerate(positions):
            if position.waiting:
                counts[number] = await discarder.count(
                    number, position.last, lambda count: progress.advance(task, count)
                )
    return positions, counts


async def _discarded(redis: Redis, settings: Settings, positions: list[Position], total: int) -> None:
    """Discard the jobs that wait up to these positions."""
    discarder, _ = await _opened(redis, settings)
    discarded = 0
    try:
        with open_progress(open_console(stderr=True)) as progress:
            task = progress.add_task("discarding", total=total)

            def advance(count: int) -> None:
                nonlocal discarded
                discarded += count
                progress.advance(task, count)

            for number, position in enumerate(positions):
                if position.waiting:
                    await discarder.discard(number, position.last, advance)
    finally:
        click.echo(f"{discarded:,} discarded")


def _print(counts: _Counts, console: Console) -> None:
    sheet = Sheet(console, "Waiting jobs")
    ops = sorted({op for count in counts.values() for op in count})
    sheet.columns("partition", *ops, right=True)
    for number, count in counts.items():
        sheet.row(str(number), *(f"{count[op]:,}" if count[op] else "" for op in ops))
    sheet.row("all", *(f"{sum(count[op] for count in counts.values()):,}" for op in ops))
    sheet.show()
