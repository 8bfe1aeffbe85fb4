"""The replay guards of a partition, as they are kept in Redis: read for a batch, written by its commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import Purge, WriteJob
from memory_worker.queue.replay_guard import REACHES, Guard, Position, decode_letter, point_fields
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class _Wanted(msgspec.Struct):
    """What a batch must know of one user: about these points, about the letters at these positions, or all letters."""

    user_id: str
    fields: dict[str, None]
    positions: dict[Position, None]
    all: bool = False

    def packed(self) -> bytes:
        """Return it as the script takes it."""
        lists = {"fields": list(self.fields), "positions": list(self.positions)}
        return msgspec.msgpack.encode({"user_id": self.user_id, "all": self.all, **lists})


async def load_guards(
    redis: Redis, keys: Keys, partition: int, jobs: Iterable[tuple[Position, WriteJob]]
) -> dict[int, Guard]:
    """Return the guards of those users of ``jobs``, each with its position, who have dead letters. One round trip.

    Raises `QueueUnavailable`.
    """
    wanted = _wanted(jobs)
    if not wanted:
        return {}
    with queue_request("guards"):
        packed = [what.packed() for what in wanted.values()]
        found = await scripts.run(redis, "guards", [keys.guarded(partition)], packed)
    return {
        user_id: _guard(list(what.fields), *row)
        for (user_id, what), row in zip(wanted.items(), found, strict=True)
        if row is not None
    }


def _wanted(jobs: Iterable[tuple[Position, WriteJob]]) -> dict[int, _Wanted]:
    wanted: dict[int, _Wanted] = {}
    for position, job in jobs:
        what = wanted.get(job.user_id)
        if what is None:
            what = wanted[job.user_id] = _Wanted(str(job.user_id), {REACHES: None}, {})
        what.fields.update(dict.fromkeys(point_fields(job)))
        what.positions[position] = None
        what.all |= isinstance(job, Purge) and not job.is_narrowed
    return wanted


def _guard(fields: Sequence[str], touched: Sequence[bytes | None], flat: Sequence[Any]) -> Guard:
    values = {field: value for field, value in zip(fields, touched, strict=True) if value is not None}
    reaches = values.pop(REACHES, b"")
    dead_letters = {
        at.decode(): decode_letter(dead_letter) for at, dead_letter in zip(flat[::2], flat[1::2], strict=True)
    }
    return Guard({field: value.decode() for field, value in values.items()}, reaches, dead_letters)
