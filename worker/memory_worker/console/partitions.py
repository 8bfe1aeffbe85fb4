"""The page about all partitions, and the map of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from memory_worker.console.query import Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.inspection.status import PartitionStatus
from memory_worker.plain_text import age

COLUMNS = 32
CELL = 14
"""Distance of two cells of the map."""
_SHOWN_AT_ONCE = 128


class Cell(NamedTuple):
    """A partition in the map, with its overflow stream. ``state`` is the most important of its states."""

    x: int
    y: int
    state: str
    has_dead: bool
    text: str


async def partitions(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the page shows: the busiest partitions first, or all of them."""
    status = sources.stats()
    everything = query.get("show") == "all"
    found = busiest(status.partitions) if status else []
    rows = sorted(status.partitions, key=_place) if status and everything else found[:_SHOWN_AT_ONCE]
    return {
        "refresh": query.refresh,
        "status": status,
        "cells": cells(status.partitions) if status else [],
        "rows": rows,
        "everything": everything,
        "idle": len(status.partitions) - len(found) if status else 0,
        "more": 0 if everything else len(found) - len(rows),
    }


def busiest(states: Sequence[PartitionStatus]) -> list[PartitionStatus]:
    """Return the partitions in which something happens: held ones first, then by waiting jobs and dead letters."""
    busy = [state for state in states if state.held or state.waiting or state.draining or state.dead]
    return sorted(busy, key=lambda state: (not state.held, -state.waiting, -state.dead, state.partition))


def cells(states: Sequence[PartitionStatus]) -> list[Cell]:
    """Return the map: each partition in its place, from left to right and from top to bottom."""
    streams: dict[int, list[PartitionStatus]] = {}
    for state in states:
        home = state.partition if state.overflow_of is None else state.overflow_of
        streams.setdefault(home, []).append(state)
    return [_cell(place, home, streams[home]) for place, home in enumerate(sorted(streams))]


def _cell(place: int, home: int, streams: Sequence[PartitionStatus]) -> Cell:
    waiting, dead = sum(one.waiting for one in streams), sum(one.dead for one in streams)
    state = next(
        (name for name in ("held", "draining", "waiting") if any(getattr(one, name) for one in streams)), "idle"
    )
    oldest = max((one.oldest_age_s or 0.0 for one in streams), default=0.0)
    text = f"partition {home}: {state}"
    text += f", {waiting:,} waiting, oldest {age(oldest)}" if waiting else ""
    text += f", {dead:,} dead letters" if dead else ""
    return Cell(place % COLUMNS * CELL, place // COLUMNS * CELL, state, bool(dead), text)


def _place(state: PartitionStatus) -> tuple[int, bool]:
    return (state.partition, False) if state.overflow_of is None else (state.overflow_of, True)
