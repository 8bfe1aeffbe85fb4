"""What `dead` prints for people, and dead letters as documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console

from memory_worker.contract import decode_write
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import UserId
from memory_worker.plain_text import plain
from memory_worker.queue.dead_letters import DeadLetter, DeadLetterHeader

_DETAIL_CHARACTERS = 200


async def print_headers(headers: AsyncIterator[DeadLetterHeader], console: Console, *, limit: int) -> None:
    """Print dead letters as they come, two lines each, up to ``limit`` of them.

    No table: its columns would cut receipts that are there to be copied. Past rich, which takes a millisecond a line.
    """
    encoding, write = console.encoding, console.file.write
    count = 0
    async for header in headers:
        if count == limit:
            write(f"there are more; --limit shows more than {limit:,}\n")
            break
        count += 1
        user = f"user {header.user_id}" if header.user_id else "user unknown"
        summary = f"{header.reason} {header.op or 'unknown'}, {user}, {header.size:,} bytes"
        summary += f", ref {header.ref}" if header.ref else ""
        line = f"{header.receipt}  {_time(header.died_s)}  {summary}"
        write(f"{plain(line, encoding)}\n    {plain(_shortened(header.detail), encoding)}\n")
    if not count:
        write("no dead letters\n")


def _shortened(text: str) -> str:
    return text if len(text) <= _DETAIL_CHARACTERS else f"{text[:_DETAIL_CHARACTERS]}..."


def header_document(header: DeadLetterHeader) -> dict[str, Any]:
    """Return a dead letter without its job as a JSON-able map."""
    parent, _, state = header.trace.partition(" ")
    return {
        "receipt": str(header.receipt),
        "died": _time(header.died_s),
        "reason": header.reason,
        "detail": header.detail,
        "op": header.op,
        "user_id": _user_id(header.user_id),
        "ref": header.ref or None,
        "contract_version": header.version,
        "bytes": header.size,
        "traceparent": parent or None,
        "tracestate": state or None,
    }


def _user_id(text: str) -> UserId | None:
    """Return a user id with its type. A user id of text is never a number. It is empty if it is unknown."""
    return int(text) if text.isdecimal() else text or None


def dead_letter_document(dead_letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a JSON-able map, with its job, decoded where possible, and its raw bytes."""
    try:
        job = msgspec.json.decode(msgspec.json.encode(decode_write(dead_letter.body)))
    except (InvalidJob, TypeError):
        job = None
    return {**header_document(dead_letter), "job": job, "raw_hex": dead_letter.body.hex()}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
