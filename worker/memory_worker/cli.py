"""The commands. Each loads the settings, does one thing, and ends with a status that says how it went.

0  done      1  failed, or a check did      2  a setting or an argument is wrong
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import uvloop
from arq.connections import ArqRedis
from rich.console import Console
from rich.progress import Progress, track

from memory_worker import __version__, failpoints, tables
from memory_worker.app import App
from memory_worker.bench.command_line import bench_options, options
from memory_worker.bench.place import own_names
from memory_worker.bench.report import report
from memory_worker.bench.report_tables import markdown, print_report
from memory_worker.bench.run import measure
from memory_worker.checks import Check, run_checks
from memory_worker.contract import Receipt, json_schema
from memory_worker.demo.dataset import DIMENSION
from memory_worker.demo.tour import tour
from memory_worker.errors import ConfigurationError, InvalidJob, MemoryWorkerError, QueueNotEmpty, ReplayRefused
from memory_worker.failpoints import arm
from memory_worker.logs import configure_logs, log_event
from memory_worker.queue.dead import DeadLetter, DeadLetters
from memory_worker.queue.keys import Keys
from memory_worker.queue.meta import QueueMeta, read_meta, repartition
from memory_worker.settings import MOST_PARTITIONS, Role, Settings, foreign_variables, load_settings
from memory_worker.status import collect_status
from memory_worker.store.bulk import BulkMode, IndexingState
from memory_worker.store.store import VectorStore
from memory_worker.wiring import engines_where_unset, open_queue, open_store

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.02

_Result = TypeVar("_Result")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Queue-driven ingestion of an AI app's memories into Qdrant.

    All settings come from the environment; the README lists them. Without REDIS_URL or QDRANT_URL an embedded engine
    takes that part, with its data under DATA_DIR.
    """


@main.command()
@click.option("--role", type=click.Choice(["ingest", "search", "all"]), help="What to do; default: WORKER_ROLE.")
def run(role: Role | None) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    with _errors_told():
        settings = load_settings()
        configure_logs(settings.log_level, as_json=settings.log_json)
        for name, setting in foreign_variables():
            log_event(logger, logging.WARNING, "unknown_variable", name=name, setting=setting)
        arm(os.environ.get(failpoints.VARIABLE, ""))
        with engines_where_unset(settings) as wired:
            _in_loop(lambda: App(wired, role or wired.worker_role).run())


@main.command()
def demo() -> None:
    """Show the whole system at work on real sentences, on engines of its own in a temporary place."""
    console = Console()
    with _errors_told(), tempfile.TemporaryDirectory(prefix="memory-worker-demo-") as directory:
        settings = _settings(
            data_dir=Path(directory),
            qdrant_vector_dimension=DIMENSION,
            redis_url=None,
            qdrant_url=None,
            port=0,
            bind_host="127.0.0.1",
        )
        console.print("starting Valkey and the vector engine in a temporary place ...")
        with engines_where_unset(settings) as wired:
            right = _in_loop(lambda: tour(wired, console))
    sys.exit(0 if right else 1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@click.option("--all", "everything", is_flag=True, help="Partitions in which nothing waits, too.")
def status(*, as_json: bool, everything: bool) -> None:
    """Show what waits, who drains, what died and what is stored."""

    async def show(settings: Settings, redis: ArqRedis, store: VectorStore) -> None:
        found = await collect_status(redis, Keys(settings.queue_prefix), store)
        if as_json:
            click.echo(msgspec.json.encode(found))
        else:
            tables.print_status(found, Console(), everything=everything)

    _with_parts(show)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def check(*, as_json: bool) -> None:
    """Check the settings, Redis, Qdrant and the collections; exit with 1 if anything must be mended."""

    async def look(settings: Settings, redis: ArqRedis, store: VectorStore) -> list[Check]:
        return [found async for found in run_checks(settings, redis, store)]

    found = _with_parts(look)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        tables.print_checks(found, Console())
    sys.exit(1 if any(one.verdict == "failed" for one in found) else 0)


@main.command()
@click.argument("number", type=click.IntRange(1, MOST_PARTITIONS), required=False)
@click.option("--wait", "wait_s", default=30.0, show_default=True, help="Seconds to wait for the queue to be empty.")
def partitions(number: int | None, wait_s: float) -> None:
    """Show the number of partitions, or change it, which takes a moment in which nothing waits.

    Workers that run then end, and are to be started again with QUEUE_PARTITIONS set to the new number.
    """

    async def change(settings: Settings, redis: ArqRedis, _store: VectorStore) -> tuple[int, int]:
        keys = Keys(settings.queue_prefix)
        if number is None:
            meta = await read_meta(redis, keys)
            return (0, meta.partitions if meta else 0)
        return await _repartition(redis, keys, number, wait_s), number

    before, now = _with_parts(change)
    if number is None:
        click.echo(now or "not fixed yet")
    else:
        click.echo(f"{before} -> {now} partitions; start workers with QUEUE_PARTITIONS={now}")


async def _repartition(redis: ArqRedis, keys: Keys, number: int, wait_s: float) -> int:
    until = time.monotonic() + wait_s
    while True:
        try:
            return await repartition(redis, keys, number)
        except QueueNotEmpty as error:
            if error.letters or time.monotonic() > until:
                raise
        await asyncio.sleep(_LOOK_AGAIN_S)


@main.command()
@click.argument("mode", type=click.Choice(["on", "off"]), required=False)
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def bulk(mode: str | None, *, as_json: bool) -> None:
    """Show whether indexing is held back, or turn bulk mode on or off.

    ON before a large import: Qdrant stores points without indexing them, which is faster; searches of users with many
    points are slower meanwhile. OFF afterwards: Qdrant indexes all of it. Collections made in between join. Either may
    be given again at any time.
    """

    async def turn(_settings: Settings, _redis: ArqRedis, store: VectorStore) -> list[IndexingState]:
        bulk_mode = BulkMode(store.collections)
        return await {None: bulk_mode.state, "on": bulk_mode.on, "off": bulk_mode.off}[mode]()

    found = _with_parts(turn)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        tables.print_indexing(found, Console())


@main.command()
def schema() -> None:
    """Print the JSON Schema of all jobs and replies."""
    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@bench_options
def bench(*, dimension: int | None, json_file: Path | None, as_markdown: bool, **chosen: Any) -> None:
    """Measure pushes, drains, searches and more on the configured servers, or on embedded engines in a temporary place.

    It works under a key prefix and in collections of its own, and removes them afterwards. It ends with 1 if a call
    failed or a write got lost: then the figures are worth nothing.
    """
    with _errors_told(), tempfile.TemporaryDirectory(prefix="memory-worker-bench-") as directory:
        wanted = options(**chosen)
        dimensions = {} if dimension is None else {"qdrant_vector_dimension": dimension}
        settings = _settings(**own_names(load_settings().queue_prefix), **dimensions)
        wiring = engines_where_unset(settings.model_copy(update={"data_dir": Path(directory)}))
        with wiring as wired, Progress(console=Console(stderr=True), transient=True) as progress:
            embedded = settings.qdrant_url is None
            found = report(_in_loop(lambda: measure(wired, wanted, progress, embedded=embedded)))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if as_markdown:
        click.echo(markdown(found))
    else:
        print_report(found, Console())
    sys.exit(1 if found.errors else 0)


@main.group()
def dead() -> None:
    """List, show, replay or drop dead letters: jobs that can never be applied."""


_filters = [
    click.option("--reason", help="Only of this reason: malformed, invalid, refused, crashed."),
    click.option("--op", help="Only of this op: upsert, delete, purge."),
    click.option("--user", "user_id", type=int, help="Only of this user."),
]


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_filters):
        command = option(command)
    return command


@dead.command("list")
@_filtered
@click.option("--limit", default=100, show_default=True, help="How many at the most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def dead_list(reason: str | None, op: str | None, user_id: int | None, limit: int, *, as_json: bool) -> None:
    """List dead letters, oldest first in each partition."""

    async def collect(letters: DeadLetters) -> list[DeadLetter]:
        return await _selected(letters, reason, op, user_id, limit=limit)

    found = _with_dead_letters(collect)
    if as_json:
        for letter in found:
            click.echo(json.dumps(tables.letter_document(letter)))
    else:
        tables.print_letters(found, Console())


@dead.command("show")
@click.argument("receipt")
def dead_show(receipt: str) -> None:
    """Show one dead letter, with its job as far as it can be read."""

    async def get(letters: DeadLetters) -> DeadLetter | None:
        return await letters.get(_receipt(receipt))

    found = _with_dead_letters(get)
    if found is None:
        raise click.ClickException(f"there is no dead letter {receipt}")
    click.echo(json.dumps(tables.letter_document(found, whole=True), indent=2))


@dead.command("replay")
@click.argument("receipts", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the filters leave.")
@_filtered
@click.option("--force", is_flag=True, help="Replay even where that undoes newer jobs of the same points.")
@click.confirmation_option(prompt="A replayed job is applied after all that was pushed since. Go on?")
def dead_replay(
    receipts: tuple[str, ...], reason: str | None, op: str | None, user_id: int | None, *, everything: bool, force: bool
) -> None:
    """Push dead letters again, behind all that waits now, where that undoes nothing newer."""

    async def replay(letters: DeadLetters) -> tuple[int, list[Receipt]]:
        chosen = await _chosen(letters, receipts, reason, op, user_id, everything=everything)
        replayed, superseded = 0, []
        for one in track(chosen, "replaying", transient=True, console=Console(stderr=True)):
            try:
                replayed += await letters.replay(one, force=force) is not None
            except ReplayRefused:
                superseded.append(one)
        return replayed, superseded

    replayed, superseded = _with_dead_letters(replay)
    click.echo(f"{replayed} replayed")
    for receipt in superseded:
        click.echo(
            f"{receipt} left: newer jobs of the same points have been applied since; --force replays it", err=True
        )
    sys.exit(1 if superseded else 0)


@dead.command("drop")
@click.argument("receipts", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the filters leave.")
@_filtered
@click.confirmation_option(prompt="Dropped jobs are gone for good. Go on?")
def dead_drop(
    receipts: tuple[str, ...], reason: str | None, op: str | None, user_id: int | None, *, everything: bool
) -> None:
    """Forget dead letters for good."""

    async def drop(letters: DeadLetters) -> int:
        chosen = await _chosen(letters, receipts, reason, op, user_id, everything=everything)
        return sum(
            [
                await letters.drop([one])
                for one in track(chosen, "dropping", transient=True, console=Console(stderr=True))
            ]
        )

    click.echo(f"{_with_dead_letters(drop)} dropped")


async def _chosen(
    letters: DeadLetters,
    receipts: tuple[str, ...],
    reason: str | None,
    op: str | None,
    user_id: int | None,
    *,
    everything: bool,
) -> list[Receipt]:
    if bool(receipts) == (everything or reason is not None or op is not None or user_id is not None):
        raise click.UsageError("name receipts, or choose with --all, --reason, --op or --user")
    if receipts:
        return [_receipt(text) for text in receipts]
    return [letter.receipt for letter in await _selected(letters, reason, op, user_id)]


async def _selected(
    letters: DeadLetters, reason: str | None, op: str | None, user_id: int | None, *, limit: int | None = None
) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    async for letter in letters.all():
        if limit is not None and len(found) >= limit:
            break
        wanted = ((reason, letter.reason), (op, letter.op), (None if user_id is None else str(user_id), letter.user_id))
        if all(want in (None, has) for want, has in wanted):
            found.append(letter)
    return found


def _receipt(text: str) -> Receipt:
    try:
        return Receipt.parse(text)
    except InvalidJob as error:
        raise click.UsageError(str(error)) from error


def _settings(**overrides: Any) -> Settings:
    """Return the settings for a command that shows warnings only; the first are about variables without effect."""
    settings = load_settings(**overrides)
    configure_logs("WARNING", as_json=False)
    for name, setting in foreign_variables():
        click.echo(f"memory-worker: {name} has no effect here; the setting is {setting}", err=True)
    return settings


def _with_parts(work: Callable[[Settings, ArqRedis, VectorStore], Awaitable[_Result]]) -> _Result:
    """Run ``work`` with connections to the configured (or embedded) Redis and Qdrant."""

    async def connected(settings: Settings) -> _Result:
        redis = open_queue(settings)
        try:
            async with open_store(settings, redis) as store:
                return await work(settings, redis, store)
        finally:
            await redis.aclose(close_connection_pool=True)

    with _errors_told():
        settings = _settings()
        with engines_where_unset(settings) as wired:
            return _in_loop(lambda: connected(wired))


def _with_dead_letters(work: Callable[[DeadLetters], Awaitable[_Result]]) -> _Result:
    async def opened(settings: Settings, redis: ArqRedis, _store: VectorStore) -> _Result:
        keys = Keys(settings.queue_prefix)
        meta = await read_meta(redis, keys) or QueueMeta()
        return await work(DeadLetters(redis, keys, meta.partitions))

    return _with_parts(opened)


def _in_loop(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    return uvloop.run(work())


@contextmanager
def _errors_told() -> Iterator[None]:
    """End with one line about what is wrong, instead of a traceback."""
    try:
        yield
    except ConfigurationError as error:
        click.echo(f"memory-worker: {error}", err=True)
        sys.exit(2)
    except (MemoryWorkerError, OSError) as error:
        click.echo(f"memory-worker: {error}", err=True)
        sys.exit(1)
