"""``memory-worker status``."""

from __future__ import annotations

import sys

import click
import msgspec

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.commands.tables import print_status
from memory_worker.inspection.status import Status, collect_status
from memory_worker.plain_text import print_json
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.terminal import open_console
from memory_worker.wire.keys import Keys


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--all", "everything", is_flag=True, help="Include partitions without waiting jobs.")
def status(*, as_json: bool, everything: bool) -> None:
    """Show waiting jobs, leases, workers, dead letters and collections.

    Exit with 1 if Redis or Qdrant does not answer.
    """
    with reported(), servers(to_stderr=as_json) as settings:
        found = in_loop(lambda: _collected(settings))
        if as_json:
            print_json(msgspec.to_builtins(found))
        else:
            print_status(found, open_console(), everything=everything)
        sys.exit(0 if found.store_error is None else 1)


async def _collected(settings: Settings) -> Status:
    async with connected_queue_and_store(settings) as (redis, store):
        return await collect_status(redis, Keys(settings.queue_prefix), store)
