"""The page about the whole queue: what needs attention, totals, partitions, the last hour, and who is alive."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from memory_worker.console.charts import Chart, Line, chart, window_s
from memory_worker.console.partitions import busiest, cells
from memory_worker.console.query import Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.console.words import NOTHING, bytes_of, rate_of, seconds_of, whole
from memory_worker.contract.errors import QueueError
from memory_worker.inspection.fleet import Member, fleet
from memory_worker.inspection.history import Sample
from memory_worker.inspection.status import Status
from memory_worker.plain_text import age
from memory_worker.telemetry.health import Component

_NEARLY_FULL = 0.8
_BUSIEST = 8
_NAMED = 3


class Problem(NamedTuple):
    """Something that needs attention. ``page`` is the page with more about it, if there is one."""

    level: Literal["failed", "warning"]
    text: str
    page: str = ""


class Total(NamedTuple):
    """A figure. ``share`` is its part of a limit, from 0 to 1, if there is a limit."""

    name: str
    value: str
    note: str = ""
    share: float | None = None
    level: str = ""
    page: str = ""


async def overview(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the page shows. If Redis does not answer, it says so and shows the rest."""
    members, error = await _members(sources)
    status, components, now = sources.stats(), sources.health.components(), time.time()
    samples = sources.history()
    return {
        "refresh": query.refresh,
        "problems": problems(status, components, members),
        "status": status,
        "totals": totals(status) if status else [],
        "cells": cells(status.partitions) if status else [],
        "busiest": busiest(status.partitions)[:_BUSIEST] if status else [],
        "charts": charts(samples, now),
        "over_s": window_s(samples, now),
        "reporting": _reporting(samples),
        "members": members,
        "members_error": error,
        "components": components,
        "now": now,
    }


async def _members(sources: ConsoleSources) -> tuple[list[Member], str]:
    try:
        async with sources.connect() as redis:
            return await fleet(redis, sources.keys), ""
    except QueueError as error:
        return [], str(error)


def problems(status: Status | None, components: Mapping[str, Component], members: Sequence[Member]) -> list[Problem]:
    """Return what needs attention, the worst first."""
    found = [
        Problem("failed", f"{name} is down in this process: {component.reason}")
        for name, component in components.items()
        if not component.up
    ]
    if status is None:
        found.append(Problem("warning", "There are no queue stats yet. A worker collects them every few seconds."))
        return found
    if status.store_error:
        found.append(Problem("failed", f"Qdrant does not answer: {status.store_error}", "collections"))
    return sorted([*found, *_of_work(status, members), *_of_limits(status)], key=lambda one: one.level != "failed")


def _of_work(status: Status, members: Sequence[Member]) -> Iterable[Problem]:
    if status.paused is not None:
        yield Problem("warning", f"The queue is {status.paused}. Workers apply no writes until it is resumed.")
    roles = {member.process.role for member in members}
    if status.waiting and members and not roles & {"ingest", "all"}:
        yield Problem("failed", f"{status.waiting:,} writes wait, but no worker with the role ingest is alive.")
    if status.reads_waiting and members and not roles & {"search", "all"}:
        yield Problem("failed", f"{status.reads_waiting:,} reads wait, but no worker with the role search is alive.")
    if held := [one for one in status.partitions if one.held]:
        needs = sorted({one.needs for one in held if one.needs})
        what = f" Needed: {_some(needs)}." if needs else ""
        yield Problem("warning", f"{_count(len(held), 'partition')} held for another worker.{what}", "partitions")
    if status.dead:
        yield Problem("warning", f"{_count(status.dead, 'dead letter')} to replay or drop.", "dead-letters")
    if bulk := [info.name for info in status.collections if info.indexing_held]:
        yield Problem("warning", f"Bulk mode holds back the indexing of {_some(bulk)}.", "collections")
    if red := [info.name for info in status.collections if info.status == "red"]:
        yield Problem("failed", f"Qdrant reports an error in {_some(red)}.", "collections")


def _of_limits(status: Status) -> Iterable[Problem]:
    limits = (
        ("The queue holds", status.waiting + status.dead, status.max_jobs, "jobs that QUEUE_MAX_JOBS allows"),
        ("The queue holds", status.waiting_bytes, status.max_bytes, "bytes that QUEUE_MAX_BYTES allows"),
        ("Redis uses", status.redis_memory_bytes, status.redis_memory_limit_bytes, "memory that maxmemory allows"),
    )
    for begin, value, limit, what in limits:
        if limit and value >= _NEARLY_FULL * limit:
            yield Problem("failed" if value >= limit else "warning", f"{begin} {value / limit:.0%} of the {what}.")


def totals(status: Status) -> list[Total]:
    """Return the totals of the queue now."""
    held = sum(state.held for state in status.partitions)
    overflow = sum(state.overflow_of is not None for state in status.partitions)
    return [
        Total("Writes waiting", whole(status.waiting), *_of_limit(status.waiting, status.max_jobs, whole)),
        Total("Oldest write", age(status.oldest_age_s) if status.waiting else NOTHING, "since its push"),
        Total("Dead letters", whole(status.dead), "to replay or drop", level="warning" * bool(status.dead),
              page="dead-letters"),
        Total("Reads waiting", whole(status.reads_waiting), "without an answer yet"),
        Total("Partitions drained", whole(status.draining), f"of {status.partition_count:,}", page="partitions"),
        Total("Partitions held", whole(held), f"{overflow:,} overflow streams in use", level="warning" * bool(held),
              page="partitions"),
        Total("Bytes waiting", bytes_of(status.waiting_bytes),
              *_of_limit(status.waiting_bytes, status.max_bytes, bytes_of)),
        Total("Memory of Redis", bytes_of(status.redis_memory_bytes),
              *_of_limit(status.redis_memory_bytes, status.redis_memory_limit_bytes, bytes_of)),
    ]  # fmt: skip


def charts(samples: Sequence[Sample], now: float) -> list[Chart]:
    """Draw the last hour of all workers, or what there is of it."""
    applied = [Line("applied", lambda one: one.applied, is_filled=True), Line("dead letters", lambda one: one.dead)]
    latency = [
        Line("99 %", lambda one: one.applied_p99_s, is_filled=True),
        Line("median", lambda one: one.applied_p50_s),
    ]
    waiting = [Line("waiting", lambda one: one.waiting, is_filled=True)]
    reads = [Line("answered", lambda one: one.reads, is_filled=True), Line("failed", lambda one: one.failed_reads)]
    read_latency = [
        Line("99 %", lambda one: one.read_p99_s, is_filled=True),
        Line("median", lambda one: one.read_p50_s),
    ]
    oldest = [Line("oldest", lambda one: one.oldest_age_s, is_filled=True)]
    return [
        chart("Writes", "per second", samples, applied, shown=rate_of, now=now),
        chart("From push to applied", "time", samples, latency, shown=seconds_of, now=now),
        chart("Writes waiting", "jobs", samples, waiting, shown=whole, now=now),
        chart("Reads", "per second", samples, reads, shown=rate_of, now=now),
        chart("From read to reply", "time", samples, read_latency, shown=seconds_of, now=now),
        chart("Oldest waiting write", "age", samples, oldest, shown=seconds_of, now=now),
    ]


def _reporting(samples: Sequence[Sample]) -> tuple[int, int]:
    """Return how many processes the charts include now, and how many are alive."""
    return (samples[-1].reporting, samples[-1].alive) if samples else (0, 0)


def _of_limit(value: float, limit: float, shown: Any) -> tuple[str, float | None]:
    return (f"of {shown(limit)}", min(1.0, value / limit)) if limit else ("no limit", None)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
