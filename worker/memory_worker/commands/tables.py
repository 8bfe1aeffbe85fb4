"""What `status`, `check` and `bulk` print for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from memory_worker.inspection.checks import Check
from memory_worker.inspection.status import PartitionStatus, Status
from memory_worker.plain_text import age
from memory_worker.store.bulk import IndexingState
from memory_worker.terminal import Sheet, foreign, styled

_VERDICTS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}
_MIB = 1_048_576


def print_status(status: Status, console: Console, *, everything: bool) -> None:
    """Print the state of the system; partitions in which nothing happens only if ``everything``."""
    console.print(
        f"[bold]{status.waiting:,}[/] jobs wait, the oldest for [bold]{age(status.oldest_age_s)}[/]; "
        f"[bold]{status.draining}[/] of {status.partition_count} partitions are being drained; "
        f"[bold]{status.dead:,}[/] dead letters",
        soft_wrap=True,
    )
    arq_writes = f"{status.arq_writes_waiting:,} writes of arq's own client; " if status.arq_writes_waiting else ""
    console.print(
        f"{_of_limit(status.waiting, status.max_jobs, '{:,}')} jobs and "
        f"{_of_limit(status.waiting_bytes / _MIB, status.max_bytes / _MIB, '{:,.1f}')} MiB wait; "
        f"{status.reads_waiting:,} reads; {arq_writes}Redis uses "
        f"{_of_limit(status.redis_memory_bytes / _MIB, status.redis_memory_limit_bytes / _MIB, '{:,.0f}')} MiB",
        soft_wrap=True,
    )
    if status.paused is not None:
        pause = foreign(str(status.paused), console)
        console.print(f"[yellow]{pause}[/]; to go on: memory-worker resume", soft_wrap=True)
    counts = ", ".join(f"{count} {foreign(role, console)}" for role, count in status.workers.items())
    console.print(f"workers: {counts}" if sum(status.workers.values()) else "[yellow]workers: none[/]")
    _print_partitions(status, console, everything=everything)
    _print_collections(status, console)


def _print_partitions(status: Status, console: Console, *, everything: bool) -> None:
    busy = [p for p in status.partitions if everything or p.waiting or p.draining or p.dead]
    if not busy:
        return
    sheet = Sheet(console, "Partitions")
    sheet.columns("partition", "waiting", "oldest", "lease", "dead letters", right=True)
    sheet.columns("")
    for part in busy:
        sheet.row(
            _number(part),
            f"{part.waiting:,}",
            "" if part.oldest_age_s is None else age(part.oldest_age_s),
            "" if part.lease_s is None else f"{part.lease_s:.1f} s",
            f"{part.dead:,}" if part.dead else "",
            styled(f"[yellow]held: needs {foreign(part.needs or 'another worker', console)}[/]") if part.held else "",
        )
    sheet.show()


def _number(part: PartitionStatus) -> str:
    return str(part.partition) if part.overflow_of is None else f"{part.partition} (overflow of {part.overflow_of})"


def _of_limit(value: float, limit: float, shown: str) -> str:
    return f"{shown.format(value)} of {shown.format(limit)}" if limit else shown.format(value)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print the verdicts, and for those that are not ok what to do."""
    sheet = Sheet(console, "Checks")
    sheet.columns("check")
    sheet.columns("verdict", whole=True)
    sheet.columns("seen", "what to do")
    for check in checks:
        sheet.row(check.name, styled(_VERDICTS[check.verdict]), check.seen, check.advice)
    sheet.show()


def print_indexing(states: Sequence[IndexingState], console: Console) -> None:
    """Print whether indexing is held back, a line for each collection."""
    if not states:
        console.print("no collections")
        return
    sheet = Sheet(console, "Indexing")
    sheet.columns("collection", "indexing")
    sheet.columns("from kB", "points", "in index", right=True)
    for state in states:
        mode = styled("[yellow]held back (bulk mode)[/]") if state.held else "as data arrives"
        sheet.row(state.name, mode, f"{state.threshold_kb:,}", f"{state.points:,}", f"{state.indexed_vectors:,}")
    sheet.show()


def _print_collections(status: Status, console: Console) -> None:
    if status.store_error is not None:
        console.print(f"[red]Qdrant does not answer:[/] {foreign(status.store_error, console)}", soft_wrap=True)
        return
    sheet = Sheet(console, "Collections")
    sheet.columns("collection")
    sheet.columns("status", whole=True)
    sheet.columns("points", "in index", "segments", "dimension", right=True)
    for info in status.collections:
        figures = (f"{info.points:,}", f"{info.indexed_vectors:,}", str(info.segments), str(info.dimension))
        sheet.row(info.name, info.status, *figures)
    sheet.show()
    held = [info.name for info in status.collections if info.indexing_held]
    if held:
        console.print(
            f"[yellow]Bulk mode: indexing is held back in {foreign(', '.join(held), console)}.[/] "
            "When the import is done: memory-worker bulk off"
        )
