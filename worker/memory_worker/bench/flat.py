"""Whether it costs more when more waits: backlogs of several sizes, each drained by one process from empty."""

from __future__ import annotations

import msgspec

from memory_worker.bench import names
from memory_worker.bench.drains import drained
from memory_worker.bench.figures import Figure
from memory_worker.bench.session import Session
from memory_worker.bench.usage import Memory, watched

_DRAINER = "worker"


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """A backlog of ``jobs`` writes: how it was pushed and drained, what the engine had then, and the memory it took."""

    jobs: int
    stored: int
    pushed: Figure
    drained: Figure
    memory: dict[str, Memory]


async def backlogs(session: Session) -> list[Backlog]:
    """Measure each backlog, in collections that are empty before it."""
    return [await _measured(session, jobs) for jobs in session.options.backlogs]


async def _measured(session: Session, jobs: int) -> Backlog:
    await session.place.empty()
    await session.place.make()
    async with watched(session.engines) as held:
        pushed = await session.push_bulk(jobs)
    async with session.processes.worker(session.settings, "ingest") as pid:
        pids = {_DRAINER: pid, **session.engines}
        async with watched(pids) as memory:
            with session.step(f"{names.DRAIN}, {jobs:,} waiting", jobs) as on_progress:
                figure = await drained(session.place.waiting, jobs, pids=pids, on_progress=on_progress)
    peaks = {name: max(memory[name], held.get(name, memory[name]), key=lambda one: one.rss_peak_mib) for name in memory}
    stored = await session.place.stored()
    return Backlog(jobs=jobs, stored=stored, pushed=pushed, drained=figure, memory=peaks)
