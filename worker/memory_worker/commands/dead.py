"""``memory-worker dead``: list, show, replay and drop dead letters, with little memory for any number of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, get_args

import click
from redis.asyncio import Redis
from rich.console import Console

from memory_worker.commands.dead_tables import dead_letter_document, header_document, print_headers
from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.contract import Receipt
from memory_worker.contract.errors import InvalidJob, ReplayRefused
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.plain_text import print_json
from memory_worker.queue.dead_choice import Choice, Chosen, choose, matching
from memory_worker.queue.dead_letters import DeadLetter, DeadLetters
from memory_worker.queue.log import DeadReason
from memory_worker.settings import Settings
from memory_worker.terminal import open_console, open_progress
from memory_worker.wire.keys import Keys

_DROPS_AT_ONCE = 100

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def dead() -> None:
    """List, show, replay or drop dead letters: jobs that can never be applied."""


def _filters(command: _Command) -> _Command:
    for option in (
        click.option("--user", "user_id", help="Only dead letters of this user."),
        click.option("--op", type=click.Choice(WRITE_OPS), help="Only dead letters with this op."),
        click.option("--reason", type=click.Choice(get_args(DeadReason)), help="Only dead letters with this reason."),
    ):
        command = option(command)
    return command


def _selection(command: _Command) -> _Command:
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
        _filters,
        click.option("--all", "everything", is_flag=True, help="All dead letters that match the filters."),
        click.argument("receipts", nargs=-1),
    ):
        command = option(command)
    return command


@dead.command("list")
@_filters
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="Most dead letters to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def dead_list(*, limit: int, as_json: bool, **filters: Any) -> None:
    """List dead letters, oldest first in each partition."""

    async def show(redis: Redis) -> None:
        headers = matching(await _dead_letters(redis, settings), Choice(**filters))
        if not as_json:
            await print_headers(headers, open_console(), limit=limit)
            return
        count = 0
        async for header in headers:
            print_json(header_document(header))
            count += 1
            if count == limit:
                break

    with reported(), servers(("redis",), to_stderr=as_json) as settings:
        with_redis(settings, show)


@dead.command("show")
@click.argument("receipt")
def dead_show(receipt: str) -> None:
    """Show one dead letter with its job, if the job can be read."""

    async def get(redis: Redis) -> DeadLetter | None:
        return await (await _dead_letters(redis, settings)).get(_receipt(receipt))

    with reported(), servers(("redis",), to_stderr=True) as settings:
        found = with_redis(settings, get)
    if found is None:
        raise click.ClickException(f"there is no dead letter {_receipt(receipt)}")
    print_json(dead_letter_document(found), indent=2)


@dead.command("replay")
@_selection
@click.option("--force", is_flag=True, help="Replay even if that undoes newer jobs of the same points.")
def dead_replay(*, receipts: tuple[str, ...], yes: bool, force: bool, **filters: Any) -> None:
    """Push dead letters again, in their original order, to the end of the queue.

    A dead letter is left if its replay would undo newer jobs of the same points. The command then exits with 1.
    """
    with reported(), servers(("redis",), to_stderr=False) as settings:
        chosen = _confirmed(
            settings, receipts, filters, yes, "A replayed job is applied after all pushed since. Go on?"
        )
        if chosen is None:
            return
        left = with_redis(settings, lambda redis: _replayed(redis, settings, chosen, force=force))
        sys.exit(1 if left else 0)


@dead.command("drop")
@_selection
def dead_drop(*, receipts: tuple[str, ...], yes: bool, **filters: Any) -> None:
    """Delete dead letters for good."""
    with reported(), servers(("redis",), to_stderr=False) as settings:
        chosen = _confirmed(settings, receipts, filters, yes, "Dropped jobs are gone for good. Go on?")
        if chosen is not None:
            with_redis(settings, lambda redis: _dropped(redis, settings, chosen))


def _confirmed(
    settings: Settings, receipts: tuple[str, ...], filters: dict[str, Any], yes: bool, question: str
) -> Chosen | None:
    """Print how many dead letters were chosen, and ask for confirmation; return ``None`` if there are none."""
    choice = Choice(receipts=tuple(map(_receipt, receipts)), **filters)
    if bool(choice.receipts) == choice.has_filters:
        raise click.UsageError("name receipts, or choose with --all, --reason, --op or --user")

    async def look(redis: Redis) -> Chosen:
        return await choose(await _dead_letters(redis, settings), choice)

    chosen = with_redis(settings, look)
    for receipt in chosen.missing:
        click.echo(f"there is no dead letter {receipt}", err=True)
    if not chosen.total:
        click.echo("no dead letters")
        return None
    click.echo(chosen.summary())
    if not yes:
        click.confirm(question, abort=True)
    return chosen


async def _replayed(redis: Redis, settings: Settings, chosen: Chosen, *, force: bool) -> int:
    """Replay what was chosen; return how many had to be left."""
    dead_letters = await _dead_letters(redis, settings)
    console = open_console(stderr=True)
    replayed = left = 0
    try:
        with _progress("replaying", chosen.total, console) as advance:
            async for receipt in chosen.in_order(dead_letters):
                try:
                    replayed += await dead_letters.replay(receipt, force=force) is not None
                except ReplayRefused as error:
                    left += 1
                    console.print(f"{receipt} left: {error}; --force replays it", soft_wrap=True)
                advance(1)
    finally:
        click.echo(f"{replayed:,} replayed")
    return left


async def _dropped(redis: Redis, settings: Settings, chosen: Chosen) -> None:
    dead_letters = await _dead_letters(redis, settings)
    dropped, batch = 0, list[Receipt]()
    try:
        with _progress("dropping", chosen.total, open_console(stderr=True)) as advance:
            async for receipt in chosen.receipts(dead_letters):
                batch.append(receipt)
                if len(batch) == _DROPS_AT_ONCE:
                    dropped += await dead_letters.drop(batch)
                    advance(len(batch))
                    batch.clear()
            if batch:
                dropped += await dead_letters.drop(batch)
    finally:
        click.echo(f"{dropped:,} dropped")


@contextmanager
def _progress(what: str, total: int, console: Console) -> Iterator[Callable[[float], None]]:
    """Show the progress on a terminal; yield a function that adds to the number of those done."""
    with open_progress(console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


async def _dead_letters(redis: Redis, settings: Settings) -> DeadLetters:
    return await DeadLetters.open(redis, Keys(settings.queue_prefix), outcomes_max=settings.outcomes_max)


def _receipt(text: str) -> Receipt:
    try:
        return Receipt.parse(text)
    except InvalidJob as error:
        raise click.UsageError(str(error)) from error
