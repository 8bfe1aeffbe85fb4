"""The pages of dead letters: a list with filters, the newest first, and one dead letter with its job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, get_args
from urllib.parse import urlencode

from memory_worker.console.masks import shown_detail, shown_job
from memory_worker.console.query import Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.contract import Receipt
from memory_worker.contract.errors import InvalidJob, QueueError
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.queue.dead_choice import Choice
from memory_worker.queue.dead_letters import DeadLetter, DeadLetterHeader, DeadLetters
from memory_worker.queue.dead_newest import newest
from memory_worker.queue.log import DeadReason

REASONS = get_args(DeadReason)
FILTERS = ("user", "op", "reason")
ROWS = 50
_MOST_READ = 10_000
_MOST_S = 1.0
_DETAIL_CHARACTERS = 200


class Found(NamedTuple):
    """A part of the list. ``next_after`` is the receipt behind which the next part begins, if there is more.

    ``read`` is how many dead letters were compared with the filters.
    """

    headers: list[DeadLetterHeader]
    next_after: str
    read: int


class Row(NamedTuple):
    """A dead letter in the list."""

    header: DeadLetterHeader
    detail: str


def choice_of(given: Mapping[str, str], *, died_by_s: float | None = None) -> Choice:
    """Return the dead letters that match the filters of a page. A filter with an unknown value matches none."""
    return Choice(
        user_id=given.get("user") or None,
        op=given.get("op") or None,
        reason=given.get("reason") or None,
        everything=True,
        died_by_s=died_by_s,
    )


async def dead_letters(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the list shows."""
    filters = {name: query.get(name) for name in FILTERS if query.get(name)}
    after, error = _receipt(query.get("after")), ""
    found = Found([], "", 0)
    try:
        async with sources.connect() as redis:
            opened = await DeadLetters.open(redis, sources.keys)
            async with aclosing(newest(redis, sources.keys, opened.partitions, after=after)) as headers:
                found = await part_of(headers, choice_of(filters))
    except QueueError as problem:
        error = str(problem)
    payloads = sources.settings.console_payloads
    return {
        "filters": filters,
        "filter_query": urlencode(filters),
        "next_query": urlencode({**filters, "after": found.next_after}) if found.next_after else "",
        "is_first": after is None,
        "rows": [Row(header, _shortened(shown_detail(header, payloads=payloads))) for header in found.headers],
        "read": found.read,
        "error": error,
        "ops": WRITE_OPS,
        "reasons": REASONS,
    }


async def part_of(headers: AsyncIterator[DeadLetterHeader], choice: Choice) -> Found:
    """Return the first dead letters that match. It stops early if it has read many, or for long."""
    found: list[DeadLetterHeader] = []
    read, until, last = 0, time.monotonic() + _MOST_S, ""
    async for header in headers:
        if len(found) == ROWS or read == _MOST_READ or time.monotonic() > until:
            return Found(found, last, read)
        read += 1
        last = str(header.receipt)
        if choice.matches(header):
            found.append(header)
    return Found(found, "", read)


async def dead_letter(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the page of one dead letter shows."""
    receipt, error = _receipt(f"{query.parts['partition']}/{query.parts['entry']}"), ""
    found: DeadLetter | None = None
    try:
        if receipt is not None:
            async with sources.connect() as redis:
                opened = await DeadLetters.open(redis, sources.keys)
                found = await opened.get(receipt)
    except QueueError as problem:
        error = str(problem)
    payloads = sources.settings.console_payloads
    return {
        "receipt": f"{query.parts['partition']}/{query.parts['entry']}",
        "letter": found,
        "shown": shown_job(found, payloads=payloads) if found else None,
        "error": error,
        "status_code": 200 if found or error else 404,
    }


def _receipt(text: str) -> Receipt | None:
    try:
        return Receipt.parse(text) if text else None
    except InvalidJob:
        return None


def _shortened(text: str) -> str:
    return text if len(text) <= _DETAIL_CHARACTERS else f"{text[:_DETAIL_CHARACTERS]}..."
