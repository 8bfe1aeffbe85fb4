"""A run consists of rounds. Each round has a phase for each path of ours and for each peer.

A search process runs all the time, and is idle until it is called. An ingest process runs in the phases that need it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
from rich.progress import Progress

from memory_worker.bench import options as names
from memory_worker.bench.loops import Round, Task
from memory_worker.bench.options import Options
from memory_worker.bench.place import own_place
from memory_worker.bench.processes import peak_mib
from memory_worker.bench.session import Session, drained
from memory_worker.settings import Settings

_LOAD, _KEPT = 0.2, 0.95
_PROBES_PER_SECOND = 75.0
_LEAD = 0.3
"""How long a load runs before anything is measured beside it, as a share of the time for many callers."""
_TICK_S, _BEGUN, _MANY = 0.01, 0.98, 1_000_000
_ARQ_SHARE, _ARQ_CALLERS = 0.3, 32


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. If there are ``problems``, its figures are not valid."""

    where: str
    options: Options
    rounds: list[Round]
    peak_mib: dict[str, float]
    notes: list[str]
    problems: list[str]


async def measure(settings: Settings, options: Options, progress: Progress, *, embedded: bool) -> Found:
    """Run the benchmark on the servers of these settings, and remove everything that it stored there.

    ``embedded`` means that the vector engine is the embedded one.
    """
    async with own_place(settings) as place:
        session = Session(settings, options, place, progress)
        try:
            where = await place.described(embedded=embedded)
            await session.start()
            await session.push_many({}, options.points)  # for reads to find
            session.drain_rate = (await session.settle()).rate
            await place.settle()
            rounds = [await _round(session, number) for number in range(options.rounds)]
            await session.settle()
            points = await place.points()
            peaks = {name: peak_mib(pid) for name, pid in session.engines.items()}
        finally:
            await asyncio.create_task(session.end())  # another task, because this one may be cancelled
    for process in filter(lambda process: process.name, session.processes):
        peaks[process.name] = max(peaks.get(process.name, 0.0), process.peak_mib)
    return Found(
        where=where,
        options=options,
        rounds=rounds,
        peak_mib=peaks,
        notes=sorted(session.notes),
        problems=_problems(session, rounds, points),
    )


async def _round(session: Session, number: int) -> Round:
    """Run all phases. In every second round the peers of a phase run before it."""
    found: Round = {}
    for group in _GROUPS:
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


async def push(session: Session, found: Round) -> None:
    """Push while no worker drains. This leaves a backlog for the drain phase."""
    await session.without_ingest()
    await session.each(found, names.PUSH, writes=True)
    await session.push_many(found, max(1, session.options.jobs // 2))


async def drain(session: Session, found: Round) -> None:
    """Let one process drain a backlog of single writes."""
    await session.without_ingest()
    missing = session.options.jobs - await session.place.waiting()
    if missing > 0:
        await session.write({}, names.PUSH, Task(path=names.PUSH, count=missing, callers=session.options.concurrency))
    found[names.DRAIN] = await session.settle()
    session.drain_rate = found[names.DRAIN].rate


async def visible(session: Session, found: Round) -> None:
    """Measure the time from a write until a search finds it, first without other load, then with it."""
    await session.settle()
    await session.write(found, names.IDLE, session.one_caller(names.VISIBLE))
    calls, lead_s = session.options.calls, _LEAD * session.options.seconds
    rate = _LOAD * session.drain_rate
    count = max(1, round(rate * (calls / _PROBES_PER_SECOND + 2 * lead_s)))
    load = Task(path=names.PUSH_MANY, count=count, rate=rate, group=max(1, round(rate * _TICK_S)))

    async def probe() -> None:
        await asyncio.sleep(lead_s)
        await session.write(found, names.LOADED, Task(path=names.VISIBLE, count=calls, rate=_PROBES_PER_SECOND))

    pushes, _ = await asyncio.gather(session.write(found, names.LOAD, load, session.other), probe())
    if pushes.rate < _KEPT * rate:
        session.notes.add("the callers behind the 20% load could not keep its rate")
    await session.settle()


async def search(session: Session, found: Round) -> None:
    """Search through the queue, then with our store but without the queue."""
    await session.settle()
    await session.each(found, names.SEARCH)
    await session.measure(found, names.UNQUEUED, session.one_caller(names.UNQUEUED))


async def get(session: Session, found: Round) -> None:
    """Read points by their ids."""
    await session.settle()
    await session.each(found, names.GET)


async def delete(session: Session, found: Round) -> None:
    """Delete points, and wait until they are gone."""
    task = session.one_caller(names.DELETED)
    first = await session.push_many({}, task.warmup + task.count)
    await session.settle()
    figure = await session.measure(found, names.DELETED, msgspec.structs.replace(task, first=first))
    session.stored -= figure.sent


async def ingest(session: Session, found: Round) -> None:
    """Search while another process drains a backlog as fast as it can."""
    seconds = session.options.seconds
    await session.settle()
    await session.without_ingest()
    backlog = max(session.options.jobs, round(session.drain_rate * seconds * (1 + _LEAD)))
    await session.push_many({}, backlog)
    await session.with_ingest()
    while await session.place.waiting() >= _BEGUN * backlog:  # noqa: ASYNC110  # another process drains
        await asyncio.sleep(_TICK_S)
    await session.measure(found, names.DURING_INGEST, Task(path=names.SEARCH, count=_MANY, seconds=seconds))
    if not await session.place.waiting():
        session.notes.add("the backlog was drained before the searches beside it had ended")
    await session.settle()


async def upsert(session: Session, found: Round) -> None:
    """Send Qdrant a request for each write."""
    await session.each(found, names.UPSERT, writes=True)


async def query(session: Session, found: Round) -> None:
    """Send Qdrant a request for each search."""
    await session.each(found, names.QUERY)


async def upload(session: Session, found: Round) -> None:
    """Write many points with one call of qdrant-client."""
    await session.write(found, names.UPLOAD, Task(path=names.UPLOAD, count=session.options.jobs))


async def arq(session: Session, found: Round) -> None:
    """Enqueue an arq job for each write, then start a worker for them."""
    jobs = max(1, round(_ARQ_SHARE * session.options.jobs))
    await session.write({}, names.ENQUEUE, Task(path=names.ENQUEUE, count=jobs, callers=_ARQ_CALLERS))
    worker = session.run("worker, arq", "memory_worker.bench.calls")
    await worker.ready()
    session.show(names.ARQ)
    found[names.ARQ] = await drained(session.place.arq_waiting, jobs, {worker.name: worker.pid, **session.engines})
    await worker.end()


_GROUPS: tuple[dict[str, Callable[[Session, Round], Awaitable[None]]], ...] = (
    {"push": push, "upsert": upsert},
    {"drain": drain, "upload": upload, "arq": arq},
    {"visible": visible},
    {"search": search, "query": query},
    {"get": get},
    {"delete": delete},
    {"ingest": ingest},
)
"""The phases of a round. Peers run directly before or after their phase, because the speed of the machine varies."""
