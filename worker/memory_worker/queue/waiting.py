"""Read the entries that wait in a stream without taking them: for commands that count, search or discard them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.asyncio import Redis

from memory_worker.contract import WriteJob, decode_write
from memory_worker.contract.errors import InvalidJob
from memory_worker.queue.log import Entry, parse_position, parse_version
from memory_worker.wire.connection import queue_request

_PAGE = 100


async def waiting_entries(
    redis: Redis, stream: str, *, last: str = "+", page: int = _PAGE
) -> AsyncIterator[list[Entry]]:
    """Yield the entries of a stream up to the id ``last``, page by page, oldest first. Raises `QueueUnavailable`.

    ``stream`` is the key of the stream.
    """
    start = "-"
    while True:
        with queue_request("waiting"):
            found = await redis.xrange(stream, start, last, count=page)
        if found:
            yield [_entry(entry_id.decode(), fields) for entry_id, fields in found]
        if len(found) < page:
            return
        start = f"({found[-1][0].decode()}"


def job_of(entry: Entry) -> WriteJob | None:
    """Return the job of an entry, or ``None`` if it cannot be decoded."""
    try:
        return decode_write(entry.body)
    except InvalidJob:
        return None


def _entry(entry_id: str, fields: dict[bytes, bytes]) -> Entry:
    body = fields.get(b"j", b"")
    version, position = parse_version(fields.get(b"v", b"")), parse_position(fields.get(b"r", b""))
    return Entry(entry_id, version, body, len(body), position)
