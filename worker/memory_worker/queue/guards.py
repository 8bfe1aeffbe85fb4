"""Load the replay guards of a partition from Redis. The commit of a batch stores their changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import WriteJob
from memory_worker.contract.kinds import UserId
from memory_worker.queue.replay_guard import (
    PURGES_FIELD,
    Guard,
    Position,
    decode_guarded_job,
    is_full_purge,
    touched_keys,
    watched_keys,
)
from memory_worker.queue.scripts import scripts
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys


class _Wanted(msgspec.Struct):
    """What to load for one user: points, the dead letters at some positions or (``all``) all dead letters.

    The dictionaries are ordered sets.
    """

    user_id: str
    points: dict[str, None]
    positions: dict[Position, None]
    all: bool = False

    def encode(self) -> bytes:
        """Encode it for the script."""
        lists = {"points": list(self.points), "positions": list(self.positions)}
        return msgspec.msgpack.encode({"user_id": self.user_id, "all": self.all, **lists})


async def load_guards(
    redis: Redis, keys: Keys, partition: int, jobs: Iterable[tuple[Position, WriteJob]]
) -> dict[UserId, Guard]:
    """Return the guards for ``jobs``, which come with their positions, by user. One round trip.

    A user has one guard for both streams, under the number ``partition`` of the home stream.
    Users without dead letters have no guard. Raises `QueueUnavailable`.
    """
    wanted = _wanted(jobs)
    if not wanted:
        return {}
    with queue_request("guards"):
        args = [user.encode() for user in wanted.values()]
        found = await scripts.run(redis, "guards", [keys.guarded(partition)], args)
    return {
        user_id: _guard(list(user.points), *row)
        for (user_id, user), row in zip(wanted.items(), found, strict=True)
        if row is not None
    }


def _wanted(jobs: Iterable[tuple[Position, WriteJob]]) -> dict[UserId, _Wanted]:
    wanted: dict[UserId, _Wanted] = {}
    for position, job in jobs:
        user = wanted.get(job.user_id)
        if user is None:
            user = wanted[job.user_id] = _Wanted(str(job.user_id), {PURGES_FIELD: None}, {})
        user.points.update(dict.fromkeys((*touched_keys(job), *watched_keys(job))))
        user.positions[position] = None
        user.all |= is_full_purge(job)
    return wanted


def _guard(fields: Sequence[str], values: Sequence[bytes | None], dead_letters: Sequence[Any]) -> Guard:
    points = {field: value for field, value in zip(fields, values, strict=True) if value is not None}
    purges = points.pop(PURGES_FIELD, b"")
    return Guard(
        {point: position.decode() for point, position in points.items()},
        purges,
        {
            position.decode(): decode_guarded_job(dead_letter)
            for position, dead_letter in zip(dead_letters[::2], dead_letters[1::2], strict=True)
        },
    )
