"""``memory-worker tune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.console import Console

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.contract.errors import ConfigurationError
from memory_worker.plain_text import print_json
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.store.tuning import Tuner, TuningPlan
from memory_worker.terminal import Sheet, open_console

_REBUILT = (
    "Qdrant then rebuilds the segments that have graphs, one after the other, in the background. Reads and writes go "
    "on. Until it is done, they are slower, and each segment takes its size on disk once more."
)
_REINDEXED = "While a payload index is created again, searches read payloads from the disk and are slower."
_LATER = "Qdrant does not rebuild segments for it. The change applies whenever a segment is built."


@click.command()
@click.argument("collections", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document. Changes nothing without --yes.")
def tune(collections: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Give existing collections the index settings of new ones: graphs, tenant index, indexing threshold.

    Without COLLECTIONS, all of this deployment are tuned, including namespaces. The command shows what would change and
    asks. Nothing is changed that already fits, and bulk mode stays on if it is on. Points are not written again: Qdrant
    rebuilds its segments in the background. You may interrupt and repeat the command.
    """
    with reported(), servers(to_stderr=as_json) as settings:
        plans = in_loop(lambda: _planned(settings, collections))
        differing = [plan for plan in plans if plan.differences]
        if not as_json:
            _print_plans(plans, open_console())
            if differing and not yes:
                click.confirm("Go on?", abort=True)
        if differing and (yes or not as_json):
            in_loop(lambda: _tuned(settings, [plan.name for plan in differing]))
            if not as_json:
                click.echo("Changed. `memory-worker status` shows when Qdrant has built its graphs (status green).")
        if as_json:
            print_json([_document(plan, tuned=yes) for plan in plans])


async def _planned(settings: Settings, names: Sequence[str]) -> list[TuningPlan]:
    """Return the plans of the collections with these names, or of all. Raises `ConfigurationError` for other names."""
    async with connected_queue_and_store(settings) as (_, store):
        plans = await Tuner(store.collections).plans()
    unknown = sorted(set(names) - {plan.name for plan in plans})
    if unknown:
        raise ConfigurationError(f"not a collection of this deployment: {', '.join(unknown)}")
    return [plan for plan in plans if not names or plan.name in names]


async def _tuned(settings: Settings, names: Sequence[str]) -> None:
    async with connected_queue_and_store(settings) as (_, store):
        tuner = Tuner(store.collections)
        for ref in await store.collections.existing():
            if store.collections.name(ref) in names:
                await tuner.apply(ref)


def _document(plan: TuningPlan, *, tuned: bool) -> dict[str, Any]:
    return {
        "name": plan.name,
        "points": plan.points,
        "differences": msgspec.to_builtins(plan.differences),
        "rebuilds": plan.rebuilds,
        "tuned": tuned and bool(plan.differences),
    }


def _print_plans(plans: Sequence[TuningPlan], console: Console) -> None:
    if not plans:
        console.print("no collections")
        return
    if not any(plan.differences for plan in plans):
        console.print("Nothing to change: all collections have the index settings of new ones.")
        return
    sheet = Sheet(console, "Index settings")
    sheet.columns("collection")
    sheet.columns("points", right=True)
    sheet.columns("setting", "now", "new")
    for plan in plans:
        for difference in plan.differences:
            sheet.row(plan.name, f"{plan.points:,}", difference.setting, difference.found, difference.wanted)
    sheet.show()
    if any(plan.finds_too_little for plan in plans):
        console.print("[yellow]Until it is done, searches of large users may find too little.[/]")
    if any(plan.indexes for plan in plans):
        console.print(_REINDEXED, soft_wrap=True)
    console.print(_REBUILT if any(plan.rebuilds for plan in plans) else _LATER, soft_wrap=True)
