"""A run consists of rounds. Each round has a phase for each path of ours and for each peer.

A search process runs all the time, and is idle until it is called. An ingest process runs in the phases that need it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import msgspec
from rich.progress import Progress

from memory_worker.bench.loops import Round
from memory_worker.bench.options import Options
from memory_worker.bench.phases import GROUPS
from memory_worker.bench.place import own_place
from memory_worker.bench.processes import memory_mib
from memory_worker.bench.session import Session
from memory_worker.settings import Settings

_FIRST_SETTLE_S = 600.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. If there are ``problems``, its figures are not valid.

    ``settings`` has those that are not the default, by their variables.
    """

    where: str
    options: Options
    settings: dict[str, str] = {}
    rounds: list[Round]
    rest_mib: dict[str, float] = {}
    peak_mib: dict[str, float]
    notes: list[str]
    problems: list[str]


async def measure(
    settings: Settings, options: Options, progress: Progress, *, embedded: bool, changed: Mapping[str, str]
) -> Found:
    """Run the benchmark on the servers of these settings, and remove everything that it stored there.

    ``embedded`` means that the vector engine is the embedded one. ``changed`` is `Found.settings`.
    """
    async with own_place(settings) as place:
        session = Session(settings, options, place, progress)
        try:
            where = await place.described(embedded=embedded)
            await session.start()
            await session.push_many({}, options.points)  # for reads to find
            session.drain_rate = (await session.settle()).rate
            await place.settle(within_s=_FIRST_SETTLE_S)
            rounds = [await _round(session, number) for number in range(options.rounds)]
            await session.calm()
            points = await place.points()
            peaks = {name: memory_mib(pid, peak=True) for name, pid in session.engines.items()}
        finally:
            await asyncio.create_task(session.end())  # another task, because this one may be cancelled
    for process in filter(lambda process: process.name, session.processes):
        peaks[process.name] = max(peaks.get(process.name, 0.0), process.peak_mib)
    return Found(
        where=where,
        options=options,
        settings=dict(changed),
        rounds=rounds,
        rest_mib=session.rest_mib,
        peak_mib=peaks,
        notes=sorted(session.notes),
        problems=_problems(session, rounds, points),
    )


async def _round(session: Session, number: int) -> Round:
    """Run all phases. In every second round the peers of a phase run before it."""
    found: Round = {}
    for group in GROUPS:
        for name in reversed(group) if number % 2 else group:
            if session.options.wants(name):
                await group[name](session, found)
                session.phases_done += 1
    return found


def _problems(session: Session, rounds: list[Round], points: int) -> list[str]:
    """Return everything that must not happen: failed calls, warnings of workers, missing points, extra points."""
    failed = [
        f"{path}: {error} ({count} times, round {number})"
        for number, found in enumerate(rounds, start=1)
        for path, figure in found.items()
        for error, count in figure.errors.items()
    ]
    troubles = Counter(trouble for process in session.processes for trouble in process.troubles)
    logged = [f"logged by a process {count} times: {what}" for what, count in troubles.items()]
    differs = points != session.stored
    lost = [f"the engine has {points:,} points, where {session.stored:,} were written"] if differs else []
    return [*failed, *logged, *lost]
