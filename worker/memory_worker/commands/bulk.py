"""``memory-worker bulk``."""

from __future__ import annotations

import click
import msgspec

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.commands.tables import print_indexing
from memory_worker.plain_text import print_json
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.store.bulk import BulkMode, IndexingState
from memory_worker.terminal import open_console


@click.command()
@click.argument("mode", type=click.Choice(["on", "off"]), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bulk(mode: str | None, *, as_json: bool) -> None:
    """Show whether indexing is held back, or turn bulk mode on or off.

    Use ON before a large import: Qdrant then stores points without indexing them, which is faster. Searches of users
    with many points are slower until you use OFF, which makes Qdrant index all points. Bulk mode also applies to
    collections that are created while it is on. You may repeat ON and OFF at any time.
    """
    with reported(), servers(to_stderr=True) as settings:
        found = in_loop(lambda: _turned(settings, mode))
        if as_json:
            print_json(msgspec.to_builtins(found))
        else:
            print_indexing(found, open_console())


async def _turned(settings: Settings, mode: str | None) -> list[IndexingState]:
    async with connected_queue_and_store(settings) as (_, store):
        bulk_mode = BulkMode(store.collections)
        return await {None: bulk_mode.state, "on": bulk_mode.on, "off": bulk_mode.off}[mode]()
