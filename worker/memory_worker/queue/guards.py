"""The replay guards of a partition, as they are kept in Redis: read for a batch, written by its commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from arq.connections import ArqRedis

from memory_worker.contract import Purge, WriteJob
from memory_worker.queue.connection import queue_request
from memory_worker.queue.keys import Keys
from memory_worker.queue.replay_guard import REACHES, Guard, Letter, Position, decode_letter, point_fields


class _Wanted(msgspec.Struct):
    """What a batch must know of one user: about these points, about the letters at these positions, or all letters."""

    fields: dict[str, None] = {}
    positions: dict[Position, None] = {}
    all_letters: bool = False


async def load_guards(
    redis: ArqRedis, keys: Keys, partition: int, jobs: Iterable[tuple[Position, WriteJob]]
) -> dict[int, Guard]:
    """Return the guards of those users of ``jobs``, each with its position, who have dead letters.

    One round trip; a second one if there are any. Raises `QueueUnavailable`.
    """
    wanted = _wanted(jobs)
    if not wanted:
        return {}
    with queue_request("guards"):
        found = await redis.smismember(keys.guarded(partition), [str(user_id) for user_id in wanted])  # type: ignore[misc]
    guarded = {user_id: what for (user_id, what), is_member in zip(wanted.items(), found, strict=True) if is_member}
    if not guarded:
        return {}
    with queue_request("guards"):
        async with redis.pipeline(transaction=True) as pipe:
            for user_id, what in guarded.items():
                pipe.hmget(keys.guarded_points(partition, user_id), [REACHES, *what.fields])
                letters = keys.guarded_letters(partition, user_id)
                if what.all_letters:
                    pipe.hgetall(letters)
                else:
                    pipe.hmget(letters, list(what.positions) or [""])
            rows = await pipe.execute()
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {
        user_id: _guard(what, touched, letters)
        for (user_id, what), (touched, letters) in zip(guarded.items(), pairs, strict=True)
    }


def _wanted(jobs: Iterable[tuple[Position, WriteJob]]) -> dict[int, _Wanted]:
    wanted: dict[int, _Wanted] = {}
    for position, job in jobs:
        what = wanted.setdefault(job.user_id, _Wanted())
        what.fields.update(dict.fromkeys(point_fields(job)))
        what.positions[position] = None
        what.all_letters |= isinstance(job, Purge) and not job.is_narrowed
    return wanted


def _guard(what: _Wanted, touched: list[bytes | None], letters: Any) -> Guard:
    reaches, *positions = touched
    points = {field: at.decode() for field, at in zip(what.fields, positions, strict=True) if at is not None}
    if isinstance(letters, Mapping):
        by_position = {at.decode(): body for at, body in letters.items()}
    else:
        by_position = dict(zip(what.positions, letters, strict=False))
    known: dict[Position, Letter] = {at: decode_letter(body) for at, body in by_position.items() if body is not None}
    return Guard(points, reaches or b"", known)
