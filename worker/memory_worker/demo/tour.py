"""The tour: it pushes, searches, deletes, searches again, and measures each step."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import suppress

import msgspec
from msgspec import UNSET
from rich.console import Console

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Hit, Upsert
from memory_worker.demo.dataset import MODEL, Dataset, Item, Question, load
from memory_worker.runtime.process import WorkerProcess
from memory_worker.runtime.wiring import open_client
from memory_worker.settings import Settings
from memory_worker.terminal import Sheet, open_progress, styled

_SINGLE_WRITES = 40
_SEARCH_ROUNDS = 4
_APPLIED_TIMEOUT_S = 20.0
_SHOWN_CHARACTERS = 58


class Figures(msgspec.Struct):
    """The measurements of the tour. Rates are in jobs per second, times in milliseconds."""

    push_rate: float = 0.0
    applied_rate: float = 0.0
    visible_ms: list[float] = []
    search_ms: list[float] = []


async def tour(settings: Settings, console: Console) -> bool:
    """Run the tour. Return whether all questions were answered as the data set expects."""
    data = load()
    worker = WorkerProcess(settings, "all")
    ready = asyncio.Event()
    running = asyncio.create_task(worker.run(on_ready=ready.set), name="worker")
    starting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, starting], return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if running.done():
        await running
    try:
        async with open_client(settings) as queue:
            return await _tour(queue, data, console)
    finally:
        worker.stop()
        with suppress(asyncio.CancelledError):
            await running


async def _tour(queue: MemoryQueue, data: Dataset, console: Console) -> bool:
    figures = Figures()
    console.print(
        f"[bold]{len(data.memories)} memories[/] of {len({m.user_id for m in data.memories})} users and "
        f"[bold]{len(data.documents)} document chunks[/], embedded by {MODEL} ({data.dimension} dimensions)"
    )
    await _push_all(queue, data, figures, console)
    await _push_singly(queue, data.memories[:_SINGLE_WRITES], figures)
    texts = {item.point_id: item.text for item in (*data.memories, *data.documents)}
    answered = await _ask_all(queue, data.questions, texts, figures, console)
    deleted = await _delete_and_ask_again(queue, next(q for q in data.questions if q.shows == "delete"), texts, console)
    _print_figures(figures, console)
    return answered and deleted


async def _push_all(queue: MemoryQueue, data: Dataset, figures: Figures, console: Console) -> None:
    jobs = [_upsert(item) for item in (*data.memories, *data.documents)]
    started = time.perf_counter()
    receipts = await queue.upsert_many(jobs)
    pushed = time.perf_counter()
    last_of_partition = {receipt.partition: receipt for receipt in receipts}
    with open_progress(console) as progress:
        task = progress.add_task("applying", total=len(last_of_partition))
        for receipt in last_of_partition.values():
            await queue.wait_applied(receipt, timeout=_APPLIED_TIMEOUT_S)
            progress.advance(task)
    figures.push_rate = len(jobs) / (pushed - started)
    figures.applied_rate = len(jobs) / (time.perf_counter() - started)


async def _push_singly(queue: MemoryQueue, items: list[Item], figures: Figures) -> None:
    """Write one point at a time on an idle system, and measure how long it takes until a search can find it."""
    for item in items:
        started = time.perf_counter()
        receipt = await queue.upsert(
            user_id=item.user_id, point_id=item.point_id, vector=item.vector, payload=item.payload, kind=item.kind
        )
        await queue.wait_applied(receipt, timeout=_APPLIED_TIMEOUT_S)
        figures.visible_ms.append(_ms_since(started))


async def _ask_all(
    queue: MemoryQueue, questions: list[Question], texts: dict[str, str], figures: Figures, console: Console
) -> bool:
    sheet = Sheet(console, "Questions and answers")
    sheet.columns("user", right=True)
    sheet.columns("question")
    sheet.columns("shows", style="dim")
    sheet.columns("found first")
    sheet.columns("score", right=True)
    sheet.columns("as expected")
    right = True
    for question in questions:
        hits: list[Hit] = []
        for _ in range(_SEARCH_ROUNDS):
            started = time.perf_counter()
            hits = await _ask(queue, question)
            figures.search_ms.append(_ms_since(started))
        expected = tuple(hit.point_id for hit in hits[: len(question.expected)]) == question.expected
        expected = expected and bool(hits) == bool(question.expected)
        right = right and expected
        asked = question.text if question.category is None else f"{question.text} ({question.category})"
        first = _shown(texts[hits[0].point_id]) if hits else styled("[dim]nothing[/]")
        score = f"{hits[0].score:.2f}" if hits else ""
        verdict = "yes" if expected else styled("[red]NO[/]")
        sheet.row(str(question.user_id), asked, question.shows, first, score, verdict)
    sheet.show()
    return right


async def _delete_and_ask_again(
    queue: MemoryQueue, question: Question, texts: dict[str, str], console: Console
) -> bool:
    """Delete the memory that answers ``question``, and ask again. Return whether it is no longer found."""
    point_id = question.expected[0]
    before = await _ask(queue, question)
    receipt = await queue.delete(user_id=question.user_id, point_id=point_id, kind=question.kind)
    await queue.wait_applied(receipt, timeout=_APPLIED_TIMEOUT_S)
    found = [hit.point_id for hit in await _ask(queue, question)]
    sheet = Sheet(console, "A memory deleted", header=False)
    sheet.columns("", "")
    sheet.row("asked", question.text)
    sheet.row(
        "found",
        f"{before[0].point_id}: {_shown(texts[before[0].point_id])}" if before else styled("[red]nothing[/]"),
    )
    sheet.row("deleted", point_id)
    again = styled("[red]still there[/]") if point_id in found else f"nothing ({len(found)} hits)"
    sheet.row("asked again, found", again)
    sheet.show()
    return point_id not in found and not found


def _print_figures(figures: Figures, console: Console) -> None:
    sheet = Sheet(console, "Measurements (worker, client and engines share this machine)")
    sheet.columns("")
    sheet.columns("per second", "p50 ms", "p99 ms", right=True)
    sheet.row("push, many at a time", f"{figures.push_rate:,.0f}", "", "")
    sheet.row("push until applied, all", f"{figures.applied_rate:,.0f}", "", "")
    for label, times in (("one write until searchable", figures.visible_ms), ("one search", figures.search_ms)):
        cuts = statistics.quantiles(times, n=100)
        sheet.row(label, "", f"{cuts[49]:.1f}", f"{cuts[98]:.1f}")
    sheet.show()


async def _ask(queue: MemoryQueue, question: Question) -> list[Hit]:
    return await queue.search(
        user_id=question.user_id,
        vector=question.vector,
        kind=question.kind,
        limit=question.limit,
        min_score=question.min_score,
        category=UNSET if question.category is None else question.category,
        group_key=UNSET if question.group_key is None else question.group_key,
    )


def _upsert(item: Item) -> Upsert:
    return Upsert(
        user_id=item.user_id, point_id=item.point_id, vector=item.vector, payload=item.payload, kind=item.kind
    )


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
