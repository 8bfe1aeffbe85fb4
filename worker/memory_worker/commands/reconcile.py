"""``memory-worker reconcile``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import click
import msgspec
from rich.console import Console

from memory_worker.commands.interrupts import temporary_directory
from memory_worker.commands.session import in_loop, reported, servers
from memory_worker.contract.errors import ConfigurationError, InvalidJob
from memory_worker.repair.manifest import Lines, ProgramOutput
from memory_worker.repair.orphans import Deleted, LastRun, delete_orphans, refusal
from memory_worker.repair.reconcile import DEFAULT_HASH_FIELD, Advance, Reconciler, Summary
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.store.operations import CollectionRef
from memory_worker.terminal import foreign, open_console, open_progress
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import read_meta


class _Options(msgspec.Struct, frozen=True):
    ref: CollectionRef
    hash_field: str
    delete: bool
    accept_smaller: bool
    state: Path
    findings: IO[bytes] | None
    program: tuple[str, ...]


@click.command()
@click.option("--kind", required=True, help="The kind of the points, such as memory or document.")
@click.option("--namespace", help="Compare this namespace instead of the base collection.")
@click.option("--hash-field", default=DEFAULT_HASH_FIELD, show_default=True, help="Payload field that `hash` is for.")
@click.option("--json", "as_json", is_flag=True, help="Print each finding as one JSON object per line.")
@click.option("--output", type=click.File("wb"), help="Write the findings to this file, as with --json.")
@click.option("--delete-orphans", "delete", is_flag=True, help="Delete orphans that the last run has found, too.")
@click.option("--accept-smaller", is_flag=True, help="Believe a manifest that is empty or much smaller than the last.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="File that remembers the last run.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
def reconcile(
    *,
    kind: str,
    namespace: str | None,
    hash_field: str,
    as_json: bool,
    output: IO[bytes] | None,
    delete: bool,
    accept_smaller: bool,
    state: Path | None,
    program: tuple[str, ...],
) -> None:
    """Compare a collection with a manifest of the points that the app has, and report the differences.

    The manifest has one JSON object per line: {"point_id": "mem_1_7", "updated": 1730000000}. Give the PROGRAM that
    prints it after --, so that it starts once the queue is watched and must exit with 0. Without PROGRAM, the manifest
    comes on standard input.

    Points are missing, orphaned (not in the manifest) or stale: the payload's `updated` is lower, or its hash is
    another one. Give `updated`, `hash` or neither. Workers and producers may go on. A point that a waiting or new job
    is about is not reported.

    Orphans are deleted through the queue, and only if two runs have found them. Each run is remembered under DATA_DIR.

    Exit status: 0 no difference; 1 differences; 2 an error, or nothing could be compared.
    """
    with reported(failure=2), servers(to_stderr=True) as settings:
        ref = _checked_ref(settings, kind, namespace)
        findings = output or (sys.stdout.buffer if as_json else None)
        state = state or _state_file(settings, ref)
        options = _Options(ref, hash_field, delete, accept_smaller, state, findings, program)
        with temporary_directory("memory-worker-reconcile-") as directory:
            summary = in_loop(lambda: _reconciled(settings, options, Path(directory)))
        sys.exit(0 if summary.in_sync else 1)


def _checked_ref(settings: Settings, kind: str, namespace: str | None) -> CollectionRef:
    if kind not in settings.kinds:
        raise ConfigurationError(f"--kind {kind}: the kinds are {', '.join(settings.kinds)}")
    try:
        settings.kinds[kind].check_namespace(namespace)
    except InvalidJob as error:
        raise ConfigurationError(f"--{error}") from error
    return CollectionRef(kind, namespace)


def _state_file(settings: Settings, ref: CollectionRef) -> Path:
    names = [settings.queue_prefix, ref.kind, *([ref.namespace] if ref.namespace else [])]
    return settings.data_dir / "reconcile" / f"{'.'.join(quote(name, safe='') for name in names)}.jsonl"


async def _reconciled(settings: Settings, options: _Options, directory: Path) -> Summary:
    keys, console = Keys(settings.queue_prefix), open_console(stderr=True)
    async with connected_queue_and_store(settings) as (redis, store):
        meta = await read_meta(redis, keys)
        info = await store.collections.describe(options.ref)
        with _progress(console, info.points_count if info else 0) as advance:
            reconciler = Reconciler(
                redis,
                keys,
                store,
                options.ref,
                directory,
                partitions=meta.partitions if meta else settings.queue_partitions,
                hash_field=options.hash_field,
                advance=advance,
            )
            async with reconciler.watching():
                last_run = LastRun(options.state, keys, reconciler)
                last = last_run.load()
                console.print(f"watching the queue; the manifest is from {'PROGRAM' if options.program else 'stdin'}")
                with _manifest(options.program) as lines:
                    summary = await reconciler.compare(lines)
                doubt = None if options.accept_smaller else refusal(summary.manifest, last)
                _write_findings(reconciler, options.findings)
                deleted = Deleted()
                if options.delete and doubt is None:
                    deleted = await delete_orphans(redis, keys, reconciler, settings.limits)
                _print_summary(summary, open_console(stderr=options.findings is sys.stdout.buffer))
                _remember(last_run, summary, options, doubt, console)
                if options.delete:
                    _print_deleted(deleted, summary, console)
    return summary


@contextmanager
def _manifest(program: Sequence[str]) -> Iterator[Lines]:
    if not program:
        yield sys.stdin.buffer
        return
    with closing(ProgramOutput(program)) as output:
        yield output


def _remember(last_run: LastRun, summary: Summary, options: _Options, doubt: str | None, console: Console) -> None:
    """Remember this run, unless its manifest is in doubt. Raises `ConfigurationError` if orphans cannot be deleted."""
    if doubt is not None:
        message = f"{doubt}; nothing was deleted, and this run is not remembered. --accept-smaller accepts it"
        if options.delete:
            raise ConfigurationError(message)
        console.print(f"[yellow]{foreign(message, console)}[/]", soft_wrap=True)
        return
    try:
        last_run.save(summary.manifest)
    except OSError as error:
        if options.delete:
            raise
        console.print(f"[yellow]This run is not remembered:[/] {foreign(str(error), console)}", soft_wrap=True)


@contextmanager
def _progress(console: Console, points: int) -> Iterator[Advance]:
    """Show the progress of the steps on a terminal."""
    with open_progress(console) as progress:
        tasks = {
            "manifest": progress.add_task("manifest", total=None),
            "collection": progress.add_task("collection", total=points),
            "differences": progress.add_task("differences", total=None),
        }
        yield lambda step, done: progress.advance(tasks[step], done)


def _write_findings(reconciler: Reconciler, file: IO[bytes] | None) -> None:
    if file is not None:
        for finding in reconciler.ledger.findings():
            file.write(msgspec.json.encode(finding) + b"\n")
        file.flush()


def _print_summary(summary: Summary, console: Console) -> None:
    console.print(
        f"{foreign(summary.collection, console)}: {summary.manifest:,} points in the manifest, "
        f"{summary.stored:,} stored; [bold]{summary.missing:,}[/] missing, "
        f"[bold]{summary.orphaned:,}[/] orphaned, [bold]{summary.stale:,}[/] stale",
        soft_wrap=True,
    )
    notes = {
        "differ, but jobs about them wait or have just been pushed": summary.changing,
        "differ, but not all jobs of their partitions were seen or understood; run this again": summary.undecided,
        "are stored without a _point_id of their user, and were left out": summary.unowned,
    }
    for note, points in notes.items():
        if points:
            console.print(f"{points:,} points {note}", soft_wrap=True)


def _print_deleted(deleted: Deleted, summary: Summary, console: Console) -> None:
    console.print(f"deletes of {deleted.pushed:,} orphans were pushed", soft_wrap=True)
    if deleted.left:
        console.print(f"{deleted.left:,} orphans were left, because their partitions are too busy", soft_wrap=True)
    waiting = summary.orphaned - deleted.pushed - deleted.left
    if waiting:
        console.print(f"{waiting:,} orphans are remembered; the next run deletes those that it finds, too")
