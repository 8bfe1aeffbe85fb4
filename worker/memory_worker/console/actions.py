"""Replays and drops of dead letters from the console, with the same guards as those of the command line.

An action on many takes at most a few seconds for each request, because the client waits. If there are more, the page
asks to go on. Nothing is kept between the requests, so each may reach another replica.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from memory_worker.contract import Receipt
from memory_worker.contract.errors import ReplayRefused
from memory_worker.queue.dead_choice import Choice, choose, matching
from memory_worker.queue.dead_letters import DeadLetters

Action: TypeAlias = Literal["replay", "drop"]
ACTIONS: tuple[Action, ...] = ("replay", "drop")

MOST_AT_ONCE = 20_000
"""More dead letters are for the command line, which is not bound to a request."""
_SLICE_S = 4.0
_DROPS_AT_ONCE = 100
_REFUSED_SHOWN = 20


@dataclass(slots=True)
class Counted:
    """The dead letters that match some filters: their counts by reason and op, and the time of the last death."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    died_by_ms: int = 0
    too_many: bool = False

    @property
    def total(self) -> int:
        """The number of dead letters."""
        return self.counts.total()


@dataclass(slots=True)
class Result:
    """What an action has done. ``refused`` has some of those that were left, each with the reason.

    ``to_do`` is the number of dead letters that it did not come to. ``skip`` is how many were left so far.
    """

    done: int = 0
    left: int = 0
    to_do: int = 0
    skip: int = 0
    refused: list[tuple[Receipt, str]] = field(default_factory=list)


async def count(dead_letters: DeadLetters, choice: Choice, *, now: Callable[[], float] = time.monotonic) -> Counted:
    """Count the dead letters of a choice, up to `MOST_AT_ONCE` and for a few seconds."""
    found, until = Counted(), now() + _SLICE_S
    async for header in matching(dead_letters, choice):
        if found.total == MOST_AT_ONCE or now() > until:
            found.too_many = True
            break
        found.counts[header.reason, header.op] += 1
        found.died_by_ms = max(found.died_by_ms, round(header.died_s * 1000))
    return found


async def replay_many(
    dead_letters: DeadLetters,
    choice: Choice,
    *,
    force: bool,
    skip: int,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """Replay dead letters in the order in which their jobs were first pushed, for a few seconds.

    The first ``skip`` of them are left out, because an earlier request was refused to replay them.
    """
    until, result, seen = now() + _SLICE_S, Result(skip=skip), 0
    chosen = await choose(dead_letters, choice)
    async for receipt in chosen.in_order(dead_letters):
        seen += 1
        if seen <= skip:
            continue
        if now() > until:
            result.to_do = chosen.total - seen + 1
            break
        try:
            result.done += await dead_letters.replay(receipt, force=force) is not None
        except ReplayRefused as error:
            result.left += 1
            if len(result.refused) < _REFUSED_SHOWN:
                result.refused.append((receipt, str(error)))
    result.skip += result.left
    return result


async def drop_many(dead_letters: DeadLetters, choice: Choice, *, now: Callable[[], float] = time.monotonic) -> Result:
    """Delete dead letters for good, for a few seconds."""
    until, result = now() + _SLICE_S, Result()
    chosen, batch = await choose(dead_letters, choice), list[Receipt]()
    async for receipt in chosen.receipts(dead_letters):
        batch.append(receipt)
        if len(batch) == _DROPS_AT_ONCE:
            result.done += await dead_letters.drop(batch)
            batch.clear()
            if now() > until:
                break
    result.done += await dead_letters.drop(batch)
    result.to_do = max(0, chosen.total - result.done) if now() > until else 0
    return result
