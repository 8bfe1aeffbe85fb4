"""``memory-worker check``."""

from __future__ import annotations

import sys

import click
import msgspec

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.commands.tables import print_checks
from memory_worker.inspection.check import run_checks
from memory_worker.inspection.checks import Check
from memory_worker.plain_text import print_json
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.terminal import open_console


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(*, as_json: bool) -> None:
    """Check the settings, Redis, Qdrant and the collections. Exit with 1 if something must be fixed."""
    with reported(), servers(to_stderr=as_json) as settings:
        found = in_loop(lambda: _checked(settings))
        if as_json:
            print_json(msgspec.to_builtins(found))
        else:
            print_checks(found, open_console())
        sys.exit(1 if any(one.verdict == "failed" for one in found) else 0)


async def _checked(settings: Settings) -> list[Check]:
    async with connected_queue_and_store(settings) as (redis, store):
        return [found async for found in run_checks(settings, redis, store)]
