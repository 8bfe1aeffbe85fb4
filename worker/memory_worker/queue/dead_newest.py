"""Dead letters of all partitions in one order: those with the newest entries come first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import TypeAlias

from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.queue.dead_letters import DeadLetterHeader, header_of
from memory_worker.queue.replay_guard import sort_key
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions

_STREAMS_AT_ONCE = 256
_FIRST_PAGE = 10
_PAGE = 100

_Order: TypeAlias = tuple[int, int, int]


async def newest(
    redis: Redis, keys: Keys, partitions: int, *, after: Receipt | None = None
) -> AsyncGenerator[DeadLetterHeader]:
    """Yield the headers of all dead letters, or of those behind ``after``. Raises `QueueUnavailable`.

    Only as many are read as are needed, so the first of many are found quickly.
    """
    found: dict[int, deque[DeadLetterHeader]] = {}
    numbers = [*all_partitions(partitions)]
    for start in range(0, len(numbers), _STREAMS_AT_ONCE):
        lasts = {number: _last_id(number, after) for number in numbers[start : start + _STREAMS_AT_ONCE]}
        found.update(await _page(redis, keys, lasts, _FIRST_PAGE))
    waiting = [_order(headers[0].receipt) for headers in found.values() if headers]
    full = {number for number, headers in found.items() if len(headers) == _FIRST_PAGE}
    heapq.heapify(waiting)
    while waiting:
        *_, number = heapq.heappop(waiting)
        headers = found[number]
        header = headers.popleft()
        yield header
        if not headers and number in full:
            found.update(await _page(redis, keys, {number: f"({header.receipt.entry_id}"}, _PAGE))
            headers = found[number]
            if len(headers) < _PAGE:
                full.remove(number)
        if headers:
            heapq.heappush(waiting, _order(headers[0].receipt))


async def _page(redis: Redis, keys: Keys, lasts: Mapping[int, str], most: int) -> dict[int, deque[DeadLetterHeader]]:
    """Return the newest headers of each stream, up to its last id."""
    with queue_request("dead_list"):
        pages = await scripts.run(
            redis, "dead_newest", [keys.dead(number) for number in lasts], [most, *lasts.values()]
        )
    return {
        number: deque(header_of(number, entry_id, flat) for entry_id, flat in page)
        for number, page in zip(lasts, pages, strict=True)
    }


def _order(receipt: Receipt) -> _Order:
    milliseconds, sequence = sort_key(receipt.entry_id)
    return -milliseconds, -sequence, receipt.partition


def _last_id(number: int, after: Receipt | None) -> str:
    """Return the last id of a stream that comes behind ``after``, as in XREVRANGE."""
    if after is None:
        return "+"
    return f"({after.entry_id}" if number <= after.partition else after.entry_id
