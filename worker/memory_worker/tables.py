"""What the commands print for people, and dead letters as documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memory_worker.checks import Check
from memory_worker.contract import decode_write
from memory_worker.errors import InvalidJob
from memory_worker.queue.dead import DeadLetter
from memory_worker.status import Status
from memory_worker.store.bulk import IndexingState

_VERDICTS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}
_DETAIL_CHARACTERS = 100
_MIB = 1_048_576
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def print_status(status: Status, console: Console, *, everything: bool) -> None:
    """Print the state of the system; partitions in which nothing happens only if ``everything``."""
    console.print(
        f"[bold]{status.waiting:,}[/] jobs wait, the oldest for [bold]{age(status.oldest_age_s)}[/]; "
        f"[bold]{status.draining}[/] of {len(status.partitions)} partitions are being drained; "
        f"[bold]{status.dead:,}[/] dead letters"
    )
    console.print(
        f"{_of_limit(status.waiting, status.max_jobs, '{:,}')} jobs and "
        f"{_of_limit(status.waiting_bytes / _MIB, status.max_bytes / _MIB, '{:,.1f}')} MiB wait; "
        f"{status.reads_waiting:,} reads; Redis uses "
        f"{_of_limit(status.redis_memory_bytes / _MIB, status.redis_memory_limit_bytes / _MIB, '{:,.0f}')} MiB"
    )
    busy = [p for p in status.partitions if everything or p.waiting or p.draining or p.dead]
    if busy:
        table = Table(title="Partitions", title_justify="left")
        for heading in ("partition", "waiting", "oldest", "lease", "dead letters"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for part in busy:
            table.add_row(
                str(part.partition),
                f"{part.waiting:,}",
                "" if part.oldest_age_s is None else age(part.oldest_age_s),
                "" if part.lease_s is None else f"{part.lease_s:.1f} s",
                f"{part.dead:,}" if part.dead else "",
                "[yellow]held: needs a newer worker[/]" if part.held else "",
            )
        console.print(table)
    _print_collections(status, console)


def _of_limit(value: float, limit: float, shown: str) -> str:
    return f"{shown.format(value)} of {shown.format(limit)}" if limit else shown.format(value)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print the verdicts, and for those that are not ok what to do."""
    table = Table(title="Checks", title_justify="left")
    for heading in ("check", "verdict", "seen", "what to do"):
        table.add_column(heading)
    for check in checks:
        table.add_row(check.name, _VERDICTS[check.verdict], escape(check.seen), escape(check.advice))
    console.print(table)


def print_indexing(states: Sequence[IndexingState], console: Console) -> None:
    """Print whether indexing is held back, a line each collection."""
    if not states:
        console.print("no collections")
        return
    table = Table(title="Indexing", title_justify="left")
    for heading in ("collection", "indexing"):
        table.add_column(heading)
    for heading in ("from kB", "points", "in index"):
        table.add_column(heading, justify="right")
    for state in states:
        mode = "[yellow]held back (bulk mode)[/]" if state.held else "as data arrives"
        table.add_row(state.name, mode, f"{state.threshold_kb:,}", f"{state.points:,}", f"{state.indexed_vectors:,}")
    console.print(table)


def print_letters(letters: Sequence[DeadLetter], console: Console) -> None:
    """Print dead letters, a line each."""
    if not letters:
        console.print("no dead letters")
        return
    table = Table(title=f"Dead letters ({len(letters):,})", title_justify="left")
    for heading in ("receipt", "died", "reason", "op", "user", "detail"):
        table.add_column(heading)
    for letter in letters:
        table.add_row(
            str(letter.receipt),
            _time(letter.died_s),
            *map(escape, (letter.reason, letter.op, letter.user_id, letter.detail[:_DETAIL_CHARACTERS])),
        )
    console.print(table)


def letter_document(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """Return a dead letter as a JSON-able map; ``whole`` adds the job, decoded where possible, and its raw bytes."""
    document: dict[str, Any] = {
        "receipt": str(letter.receipt),
        "died": _time(letter.died_s),
        "reason": letter.reason,
        "detail": letter.detail,
        "op": letter.op,
        "user_id": int(letter.user_id) if letter.user_id else None,
        "contract_version": letter.version,
        "bytes": len(letter.body),
    }
    if whole:
        try:
            document["job"] = msgspec.json.decode(msgspec.json.encode(decode_write(letter.body)))
        except (InvalidJob, TypeError):
            document["job"] = None
        document["raw_hex"] = letter.body.hex()
    return document


def age(seconds: float) -> str:
    """Return a duration as people read it: ``850 ms``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_collections(status: Status, console: Console) -> None:
    if status.store_error is not None:
        console.print(f"[red]Qdrant does not answer:[/] {escape(status.store_error)}")
        return
    table = Table(title="Collections", title_justify="left")
    for heading in ("collection", "status"):
        table.add_column(heading)
    for heading in ("points", "in index", "segments", "dimension"):
        table.add_column(heading, justify="right")
    for info in status.collections:
        figures = (f"{info.points:,}", f"{info.indexed_vectors:,}", str(info.segments), str(info.dimension))
        table.add_row(info.name, info.status, *figures)
    console.print(table)
    held = [info.name for info in status.collections if info.indexing_held]
    if held:
        console.print(
            f"[yellow]Bulk mode: indexing is held back in {escape(', '.join(held))}.[/] "
            "When the import is done: memory-worker bulk off"
        )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
