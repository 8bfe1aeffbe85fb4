"""``memory-worker erased``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console

from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.contract.errors import ConfigurationError, InvalidJob
from memory_worker.contract.kinds import UserId, check_text_user_id
from memory_worker.inspection.erasure import Leftover, collect_leftovers
from memory_worker.plain_text import print_json
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.terminal import Sheet, open_console, styled
from memory_worker.wire.keys import Keys


@click.command()
@click.argument("user")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def erased(*, user: str, as_json: bool) -> None:
    """Prove that nothing is left of a user after a purge.

    Points are counted exactly in Qdrant, in every collection and namespace of the deployment, also behind aliases. In
    Redis the command reads waiting jobs, dead letters, the replay guard, and writes of arq's own client. Outcomes and
    overflow users only name the user. They are shown, but do not count. Nothing is changed.

    Exit with 1 if anything is left.
    """
    with reported(), servers(to_stderr=True) as settings:
        user_id = _user_id(user)
        found = in_loop(lambda: _collected(settings, user_id))
        left = sum(one.left for one in found if one.is_content)
        if as_json:
            print_json({"user_id": user_id, "left": left, "places": msgspec.to_builtins(found)})
        else:
            _print(found, left, user, open_console())
        sys.exit(1 if left else 0)


def _user_id(user: str) -> UserId:
    """Return a user id as jobs have it: digits are an integer. Raises `ConfigurationError`."""
    if user.isascii() and user.isdecimal():
        return int(user)
    try:
        check_text_user_id(user)
    except InvalidJob as error:
        raise ConfigurationError(str(error)) from error
    return user


async def _collected(settings: Settings, user_id: UserId) -> list[Leftover]:
    async with connected_queue_and_store(settings) as (redis, store):
        return await collect_leftovers(redis, Keys(settings.queue_prefix), store, user_id)


def _print(found: Sequence[Leftover], left: int, user: str, console: Console) -> None:
    sheet = Sheet(console, f"Left of user {user}")
    sheet.columns("place")
    sheet.columns("left", right=True)
    sheet.columns("what to do")
    for one in found:
        count = f"{one.left:,}"
        style = "red" if one.is_content else "yellow"
        sheet.row(one.place, styled(f"[{style}]{count}[/]") if one.left else count, one.advice if one.left else "")
    sheet.show()
    console.print("[red]not erased[/]" if left else "[green]erased[/]: nothing is left that counts")
