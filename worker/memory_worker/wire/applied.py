"""What became of pushed jobs: their states by their receipts, and waiting until a job was applied.

All answers come from `job_states`, so that they agree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio import Redis

from memory_worker.contract import JobState, Receipt
from memory_worker.contract.errors import DeadLettered, NotApplied, QueueError, UnknownReceipt
from memory_worker.wire.connection import LATE_REPLY_S, Deadline, queue_errors, queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.pause import read_pause
from memory_worker.wire.scripts import scripts

_RECEIPTS_AT_ONCE = 100
"""Receipts in one script, so that it does not block Redis for long if all of them have large dead letters."""


_FIRST_WAIT_S = 0.5
"""How long to wait before the first look, which finds out if Redis has lost the job. Most jobs are applied earlier."""


async def job_states(redis: Redis, keys: Keys, receipts: Sequence[Receipt]) -> list[JobState]:
    """Return the states of the jobs of ``receipts``, in this order. Raises `QueueUnavailable`.

    This takes one round trip for every 100 receipts, and more if some of the jobs are dead letters that were replayed.
    """
    found: list[JobState] = []
    for start in range(0, len(receipts), _RECEIPTS_AT_ONCE):
        found += await _look_up(redis, keys, receipts[start : start + _RECEIPTS_AT_ONCE])
    return await _with_replays(redis, keys, found)


async def check_applied(redis: Redis, keys: Keys, receipt: Receipt) -> None:
    """Return if the job of ``receipt`` has been applied; do not wait.

    Raises `NotApplied`, `DeadLettered` if the job can never be applied, `UnknownReceipt` if Redis no longer knows it,
    or `QueueUnavailable`.
    """
    (found,) = await job_states(redis, keys, [receipt])
    if not _is_applied(found):
        raise NotApplied(f"job {receipt} has not been applied yet; it is still queued")


async def wait_applied(redis: Redis, keys: Keys, receipt: Receipt, *, timeout_s: float) -> None:
    """Wait until the job of ``receipt`` has been applied. A short wait is one blocking command, a long one takes two.

    Raises `NotApplied` after ``timeout_s`` seconds, which names a pause of the queue, and the other errors as
    `check_applied`. The connection must allow replies to take that long.
    """
    give_up = time.monotonic() + timeout_s
    found, longest_s = JobState(receipt, "waiting"), _FIRST_WAIT_S
    async with Deadline(redis, timeout_s + LATE_REPLY_S):
        while not _is_applied(found) and (remaining_s := give_up - time.monotonic()) > 0:
            wait = _wait_for_mark(keys, found.replay or receipt, math.ceil(min(remaining_s, longest_s) * 1000))
            (found,) = await _with_replays(redis, keys, await _look_up(redis, keys, [receipt], behind=wait))
            longest_s = timeout_s
    if found.state == "waiting":
        paused = await _shown_pause(redis, keys)
        raise NotApplied(f"job {receipt} was not applied within {timeout_s:g} s; it is still queued{paused}")


async def _shown_pause(redis: Redis, keys: Keys) -> str:
    """Return the pause of the queue for an error, or an empty string if there is none, or it may not be read."""
    with suppress(QueueError):
        if pause := await read_pause(redis, keys):
            return f"; the queue is {pause}"
    return ""


def _is_applied(found: JobState) -> bool:
    """Return whether a job has been applied. Raises `DeadLettered` or `UnknownReceipt` if it never will be."""
    if found.state == "dead":
        raise DeadLettered(str(found.replay or found.receipt), found.reason, found.detail)
    if found.state == "unknown":
        raise UnknownReceipt(f"Redis has lost data about job {found.receipt}, so its state is unknown")
    return found.state == "applied"


def _wait_for_mark(keys: Keys, receipt: Receipt, block_ms: int) -> Sequence[Any]:
    """Return the command that waits until the entry of ``receipt`` has left its stream.

    The id of the mark is that of the last entry that left the stream. This may be a later entry than ours.
    """
    return ("XREAD", "BLOCK", block_ms, "STREAMS", keys.applied(receipt.partition), _id_before(receipt.entry_id))


async def _with_replays(redis: Redis, keys: Keys, found: list[JobState]) -> list[JobState]:
    """Return ``found`` with the states of the replays of dead letters."""
    replays = [one.replay for one in found if one.replay is not None]
    if not replays:
        return found
    last = iter(await job_states(redis, keys, replays))
    return [one if one.replay is None else _followed(one, next(last)) for one in found]


async def _look_up(
    redis: Redis, keys: Keys, receipts: Sequence[Receipt], *, behind: Sequence[Any] | None = None
) -> list[JobState]:
    """Return states without those of replays. With ``behind``, this command, which may block, comes first.

    It holds the connection, because there may be no other free one afterwards.
    """
    places = {partition: at for at, partition in enumerate(dict.fromkeys(one.partition for one in receipts), start=1)}
    script_keys = [keys.since]
    args: list[Any] = [len(places), *places]
    for partition in places:
        script_keys += [keys.applied(partition), keys.dead(partition), keys.removed(partition)]
    for receipt in receipts:
        args += [places[receipt.partition], receipt.entry_id, _padded(receipt.entry_id)]
    with queue_errors() if behind else queue_request("states"):
        if behind is None:
            epoch, partitions, records = await scripts.run(redis, "states", script_keys, args)
        else:
            epoch, partitions, records = await scripts.run_behind(redis, "states", script_keys, args, command=behind)
    return [
        _state(receipt, record, epoch, partitions[places[receipt.partition] - 1])
        for receipt, record in zip(receipts, records, strict=True)
    ]


def _state(receipt: Receipt, record: Sequence[bytes], epoch: bytes, partition: Sequence[bytes]) -> JobState:
    """Return the state of a job. The other arguments are what ``states.lua`` returns."""
    words: Iterator[str] = (field.decode(errors="replace") for field in record)
    match next(words, None):
        case "dead":
            reason, detail, ref = words
            return JobState(receipt, "dead", reason, detail, ref or None)
        case "removed":
            replay = next(words)
            if replay:  # its receipt, or only its id if it is in the same partition
                other = Receipt.parse(replay) if "/" in replay else Receipt(receipt.partition, replay)
                return JobState(receipt, "waiting", replay=other)
            return JobState(receipt, "dead", "dropped", "its dead letter was deleted")
    mark, known_from = partition
    if not epoch or int(receipt.entry_id.partition("-")[0]) < max(int(epoch), int(known_from or 0)):
        return JobState(receipt, "unknown")
    is_applied = bool(mark) and _numbers(mark.decode()) >= _numbers(receipt.entry_id)
    return JobState(receipt, "applied" if is_applied else "waiting")


def _followed(first: JobState, last: JobState) -> JobState:
    """Return the state of a job that was replayed. ``last`` is the state of the replay."""
    return msgspec.structs.replace(last, receipt=first.receipt, replay=last.replay or first.replay)


def _numbers(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def _padded(entry_id: str) -> str:
    milliseconds, sequence = _numbers(entry_id)
    return f"{milliseconds:020}-{sequence:020}"


def _id_before(entry_id: str) -> str:
    milliseconds, sequence = _numbers(entry_id)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}"
