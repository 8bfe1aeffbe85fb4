"""``memory-worker check``."""

from __future__ import annotations

import sys

import click
import msgspec
from redis.asyncio import Redis

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.commands.tables import print_checks
from memory_worker.inspection.check import Check, run_checks
from memory_worker.runtime.wiring import open_store
from memory_worker.settings import Settings
from memory_worker.terminal import open_console, print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(*, as_json: bool) -> None:
    """Check the settings, Redis, Qdrant and the collections. Exit with 1 if something must be fixed."""
    with reported(), servers(to_stderr=as_json) as settings:
        found = with_redis(settings, lambda redis: _checked(settings, redis))
        if as_json:
            print_json(msgspec.to_builtins(found))
        else:
            print_checks(found, open_console())
        sys.exit(1 if any(one.verdict == "failed" for one in found) else 0)


async def _checked(settings: Settings, redis: Redis) -> list[Check]:
    async with open_store(settings, redis) as store:
        return [found async for found in run_checks(settings, redis, store)]
