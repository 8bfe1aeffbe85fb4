"""``memory-worker partitions``."""

from __future__ import annotations

import asyncio
import time

import click
from redis.asyncio import Redis

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.contract.errors import QueueNotEmpty
from memory_worker.queue.partitions import repartition
from memory_worker.settings import MOST_PARTITIONS
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import read_meta

_LOOK_AGAIN_S = 0.02


@click.command()
@click.argument("number", type=click.IntRange(1, MOST_PARTITIONS), required=False)
@click.option("--wait", "wait_s", default=30.0, show_default=True, help="Seconds to wait for the queue to be empty.")
def partitions(number: int | None, wait_s: float) -> None:
    """Show the number of partitions, or change it once the queue is empty.

    Running workers exit after a change. Start them again with QUEUE_PARTITIONS set to the new number.
    """
    with reported(), servers(("redis",), to_stderr=True) as settings:
        keys = Keys(settings.queue_prefix)
        if number is None:
            meta = with_redis(settings, lambda redis: read_meta(redis, keys))
            click.echo(meta.partitions if meta else "not fixed yet")
            return
        before = with_redis(settings, lambda redis: _repartition(redis, keys, number, wait_s))
        click.echo(f"{before} -> {number} partitions; start workers with QUEUE_PARTITIONS={number}")


async def _repartition(redis: Redis, keys: Keys, number: int, wait_s: float) -> int:
    until = time.monotonic() + wait_s
    while True:
        try:
            return await repartition(redis, keys, number)
        except QueueNotEmpty as error:
            if error.dead_letters or time.monotonic() > until:
                raise
        await asyncio.sleep(_LOOK_AGAIN_S)
