"""Watch both streams of all partitions: see each entry that waits now or is pushed from now on.

An entry may be pushed and applied between two looks. So while a queue is watched, ``commit.lua`` keeps copies of the
last entries that leave each stream. If too many leave it between two looks, or a worker of an older version removes
them, some are not seen. This shows in the stream's count of added entries. Then the partition is named as one with a
gap, because nothing is known of these entries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from memory_worker.contract.errors import QueueUnavailable
from memory_worker.queue.log import parse_version
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions, home_of, streams_of

_PAGE = 100
_LOOK_EVERY_S = 0.02
_LIFE_MS = 30_000
_RENEWED_AFTER_S = 5.0
_AFTER_ERROR_S = 0.2
_NO_STREAM = "no such key"

See = Callable[[int, int, bytes], object]
"""It gets the partition of an entry, its contract version (0: none), and its job."""


@dataclass(slots=True)
class _Stream:
    """How far a stream was read: the id of the last entry, and the count of added entries up to it."""

    last_id: bytes = b"0-0"
    added: int = 0


class StreamWatch:
    """The entries of all partitions, which are passed to ``see``. All methods raise `QueueUnavailable`."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int, see: See) -> None:
        self.gaps: set[int] = set()
        """The partitions of which some entries were not seen."""
        self._redis = redis
        self._keys = keys
        self._see = see
        self._partitions = partitions
        self._streams = [_Stream() for _ in all_partitions(partitions)]
        self._reading = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._stopped = False

    async def start(self) -> None:
        """See the entries that wait now."""
        numbers = range(len(self._streams))
        async with self._reading:
            await self._renew()
            found = await self._pipelined(("XINFO STREAM", self._keys.stream(number)) for number in numbers)
            self._streams = [_stream_of(info) for info in found]
            for number, stream in enumerate(self._streams):
                await self._see_waiting(number, stream.last_id)

    async def follow(self) -> None:
        """See new entries as they are pushed, until `stop`. Then let workers keep no more copies."""
        while not self._stopped:
            try:
                await self._renew()
                await self.catch_up()
                await asyncio.sleep(_LOOK_EVERY_S)
            except QueueUnavailable:  # what is missed meanwhile is a gap
                await asyncio.sleep(_AFTER_ERROR_S)
        copies = map(self._keys.watched_entries, range(len(self._streams)))
        with suppress(QueueUnavailable), queue_request("watch"):  # they expire
            await self._redis.delete(self._keys.watched, *copies)

    def stop(self) -> None:
        """Let `follow` return after its present look."""
        self._stopped = True

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Keep `follow` from reading for a moment, so that `catch_up_paused` need not wait for it."""
        async with self._reading:
            yield

    async def catch_up(self) -> None:
        """See all entries that were pushed before this call."""
        async with self.paused():
            await self.catch_up_paused(range(self._partitions))

    async def catch_up_paused(self, partitions: Iterable[int]) -> None:
        """See all entries that were pushed to these partitions before this call, while `paused`."""
        left = [number for partition in partitions for number in streams_of(partition, self._partitions)]
        while left:
            found = await self._pipelined(command for number in left for command in self._rest_of(number))
            rest = zip(left, found[::3], found[1::3], found[2::3], strict=True)
            left = [number for number, *pages in rest if self._catch_up(number, *pages)]

    async def _renew(self) -> None:
        """Let workers keep copies of the entries that leave their streams, for some time."""
        if time.monotonic() - self._renewed_at > _RENEWED_AFTER_S:
            with queue_request("watch"):
                await self._redis.set(self._keys.watched, 1, px=_LIFE_MS)
            self._renewed_at = time.monotonic()

    async def _see_waiting(self, number: int, last_id: bytes) -> None:
        start, page = b"-", [None] * _PAGE
        while len(page) == _PAGE:
            with queue_request("watch"):
                page = await self._redis.xrange(self._keys.stream(number), start, last_id, count=_PAGE)
            self._see_all(number, page)
            start = b"(" + page[-1][0] if page else b"-"

    def _rest_of(self, number: int) -> list[tuple[str | int | bytes, ...]]:
        key, start = self._keys.stream(number), b"(" + self._streams[number].last_id
        copies = self._keys.watched_entries(number)
        return [
            ("XRANGE", copies, start, "+", "COUNT", _PAGE),
            ("XRANGE", key, start, "+", "COUNT", _PAGE),
            ("XINFO STREAM", key),
        ]

    def _catch_up(self, number: int, left: list[Any], waiting: list[Any], info: Any) -> bool:
        """See entries that have left a stream, then those that wait. Return whether there may be more."""
        if len(left) == _PAGE:
            waiting = []
        self._advance(number, [*left, *waiting])
        if _PAGE in (len(left), len(waiting)):
            return True
        current, stream = _stream_of(info), self._streams[number]
        if (current.added, current.last_id) != (stream.added, stream.last_id):
            self.gaps.add(home_of(number, self._partitions))
            self._streams[number] = current
        return False

    def _advance(self, number: int, entries: list[Any]) -> None:
        self._see_all(number, entries)
        if entries:
            self._streams[number].last_id = entries[-1][0]
            self._streams[number].added += len(entries)

    def _see_all(self, number: int, entries: list[Any]) -> None:
        partition = home_of(number, self._partitions)
        for _, fields in entries:
            self._see(partition, parse_version(fields.get(b"v", b"")), fields.get(b"j", b""))

    async def _pipelined(self, commands: Iterable[tuple[str | int | bytes, ...]]) -> list[Any]:
        """Return the results of commands in one step. Where there is no stream, the result is empty."""
        with queue_request("watch"):
            async with self._redis.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                found = await pipe.execute(raise_on_error=False)
            for result in found:
                if isinstance(result, Exception) and not _is_absence(result):
                    raise result
        return [{} if isinstance(result, Exception) else result for result in found]


def _is_absence(error: Exception) -> bool:
    return isinstance(error, ResponseError) and _NO_STREAM in str(error)


def _stream_of(info: dict[str, Any]) -> _Stream:
    return _Stream(info["last-generated-id"], info["entries-added"]) if info else _Stream()
