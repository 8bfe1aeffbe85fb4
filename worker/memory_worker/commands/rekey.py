"""``memory-worker rekey``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import click
import msgspec
from rich.console import Console
from rich.text import Text

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.plain_text import print_json
from memory_worker.repair.rekey import IntegerIds, Rekeyed, Rekeyer, RekeyOptions
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef
from memory_worker.terminal import Sheet, open_console, open_progress, styled
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import read_meta


@click.command()
@click.option("--apply", "apply", is_flag=True, help="Move the points. Without it, they are only counted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rekey(*, apply: bool, as_json: bool) -> None:
    """Give points under integer ids their UUIDs, in all collections.

    Older versions of the main app stored points under integer ids. Stop them first. Workers may go on: no write is lost
    or overtaken. If a point is also stored under its UUID, that copy is newer and stays. Points whose _point_id is
    missing or belongs to another user are left as they are.

    You may interrupt and repeat the command. It exits with 1 if there are new integer ids at its end, because somebody
    still writes them.
    """
    with reported(), servers(to_stderr=as_json) as settings:
        if apply:
            done = in_loop(lambda: _rekeyed(settings))
            print_json(msgspec.to_builtins(done)) if as_json else _print_rekeyed(done, open_console())
            sys.exit(1 if any(one.left > one.unowned for one in done) else 0)
        counts = in_loop(lambda: _counted(settings))
        print_json(msgspec.to_builtins(counts)) if as_json else _print_counts(counts, open_console())


@asynccontextmanager
async def _opened(settings: Settings, *, changing: bool) -> AsyncIterator[tuple[Rekeyer, list[CollectionRef]]]:
    """Yield the rekeyer, and the collections of the deployment."""
    keys = Keys(settings.queue_prefix)
    async with connected_queue_and_store(settings) as (redis, store):
        meta = await read_meta(redis, keys)
        options = RekeyOptions(
            partitions=meta.partitions if meta else settings.queue_partitions,
            lease_ttl_s=settings.lease_ttl_s,
            request_timeout_s=settings.qdrant_timeout_s,
            min_replicas=settings.queue_min_replicas,
        )
        collections = store.collections
        yield Rekeyer(redis, keys, store, options), await (collections.reach() if changing else collections.existing())


async def _counted(settings: Settings) -> list[IntegerIds]:
    async with _opened(settings, changing=False) as (rekeyer, refs):
        return [await rekeyer.count(ref) for ref in refs]


async def _rekeyed(settings: Settings) -> list[Rekeyed]:
    async with _opened(settings, changing=True) as (rekeyer, refs):
        done = []
        with open_progress(open_console(stderr=True)) as progress:
            for ref in refs:
                counted = await rekeyer.count(ref)
                task = progress.add_task(counted.collection, total=counted.integer_ids)
                done.append(await rekeyer.rekey(ref, partial(progress.advance, task)))
        return done


def _print_counts(counts: Sequence[IntegerIds], console: Console) -> None:
    if not counts:
        console.print("no collections")
        return
    sheet = Sheet(console, "Points under integer ids")
    sheet.columns("collection")
    sheet.columns("integer ids", "also under the UUID", "no valid _point_id", right=True)
    for one in counts:
        sheet.row(one.collection, f"{one.integer_ids:,}", f"{one.twins:,}", _warned(one.unowned))
    sheet.show()
    if any(one.integer_ids > one.unowned for one in counts):
        console.print("Nothing was changed. To move them: memory-worker rekey --apply")
    _print_advice(sum(one.unowned for one in counts), console)


def _print_rekeyed(done: Sequence[Rekeyed], console: Console) -> None:
    if not done:
        console.print("no collections")
        return
    sheet = Sheet(console, "Rekeyed")
    sheet.columns("collection")
    sheet.columns("moved", "deleted (UUID copy is newer)", "left", "no valid _point_id", right=True)
    for one in done:
        sheet.row(one.collection, f"{one.moved:,}", f"{one.deleted:,}", f"{one.left:,}", _warned(one.unowned))
    sheet.show()
    if any(one.left > one.unowned for one in done):
        console.print("[yellow]There are new integer ids: stop the older version of the app, then run this again.[/]")
    _print_advice(sum(one.unowned for one in done), console)


def _warned(count: int) -> str | Text:
    return styled(f"[yellow]{count:,}[/]") if count else "0"


def _print_advice(unowned: int, console: Console) -> None:
    if unowned:
        console.print(
            f"[yellow]{unowned:,} points have no _point_id, or that of another user. They are left as they are, and "
            "their collections count as having integer ids.[/] Delete them in Qdrant if nobody needs them.",
            soft_wrap=True,
        )
