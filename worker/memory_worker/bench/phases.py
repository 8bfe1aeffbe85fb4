"""The phases of a round: one for each path of ours, and one for each peer."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from memory_worker.bench import options as names
from memory_worker.bench.loops import Figure, Round, Task, merged
from memory_worker.bench.session import Session, drained
from memory_worker.bench.timeline import steps
from memory_worker.settings import Settings

_LOAD, _KEPT = 0.2, 0.95
_PROBES_PER_SECOND, _WARMUP_CALLS = 75.0, 20
_LEAD = 0.3
"""How long a load runs before anything is measured beside it, as a share of the time for many callers."""
_TICK_S, _BEGUN, _MANY = 0.01, 0.98, 1_000_000
_ARQ_SHARE, _ARQ_CALLERS = 0.3, 32
_VIEWERS, _LOOK_EVERY_S = 50, 5.0


async def push(session: Session, found: Round) -> None:
    """Push while no worker drains. This leaves a backlog for the drain phase."""
    await session.without_ingest()
    await session.each(found, names.PUSH, writes=True)
    await session.push_many(found, max(1, session.options.jobs // 2))


async def drain(session: Session, found: Round) -> None:
    """Let several processes drain a backlog of single writes, then one."""
    await _drain(session, found, names.DRAIN)
    session.drain_rate = found[names.DRAIN].rate


async def no_store(session: Session, found: Round) -> None:
    """Drain into a stand-in for Qdrant that stores nothing, so that only our own speed limits several processes."""
    await session.calm()
    stored = session.stored
    store = session.run("stand-in", "memory_worker.bench.stand_in", str(session.options.store_delay_ms))
    url = f"http://127.0.0.1:{(await store.ready()).split()[1]}"
    without_login = {"qdrant_url": url, "qdrant_api_key": None, "qdrant_tls_ca_file": None}
    await _drain(session, found, names.NO_STORE, session.settings.model_copy(update=without_login))
    await session.without_ingest()
    await store.end()
    session.stored = stored


async def tracing(session: Session, found: Round) -> None:
    """Drain writes by turns: without traces, and with a trace context in each, of which one in a hundred is sampled."""
    collector = session.run("collector", "memory_worker.bench.collector")
    endpoint = f"http://127.0.0.1:{(await collector.ready()).split()[1]}"
    pushes = {names.UNTRACED: names.PUSH, names.TRACED: names.TRACED_PUSH}
    variables = {names.UNTRACED: {}, names.TRACED: {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}}
    drains: dict[str, list[Figure]] = {name: [] for name in pushes}
    for name in (*pushes, *reversed(pushes)):
        await session.calm()
        await session.without_ingest()
        task = Task(path=pushes[name], count=session.options.jobs, callers=max(session.options.concurrency))
        await session.write({}, pushes[name], task, session.other)
        drains[name].append(await session.settle(variables=variables[name]))
    await session.without_ingest()
    await collector.end()
    for name, some in drains.items():
        cpu_us = {part: statistics.mean(one.cpu_us.get(part, 0.0) for one in some) for part in some[0].cpu_us}
        rate = statistics.harmonic_mean([one.rate for one in some])
        found[name] = Figure(calls=0, sent=0, rate=rate, cpu_us=cpu_us)


async def viewers(session: Session, found: Round) -> None:
    """Search by turns while nobody looks at the console of the search process, and while many do."""
    await session.calm()
    looking = session.run(
        "viewers", "memory_worker.bench.viewers", str(await session.console_port()), str(_VIEWERS), str(_LOOK_EVERY_S)
    )
    await looking.ready()
    figures: dict[str, list[Figure]] = {names.UNWATCHED: [], names.WATCHED: []}
    turns = (names.UNWATCHED, names.WATCHED, names.WATCHED, names.UNWATCHED) * 2
    task = Task(path=names.SEARCH, count=max(1, 2 * session.options.calls // len(turns)), raw=True)
    for turn in turns:
        looking.pause(turn == names.UNWATCHED)
        figures[turn].append(await session.measure({}, turn, task))
    looking.pause(False)
    await looking.end()
    found |= {name: merged(parts) for name, parts in figures.items()}


async def _drain(session: Session, found: Round, path: str, settings: Settings | None = None) -> None:
    for processes in sorted({1, session.options.ingest_processes}, reverse=True):
        await session.without_ingest()
        # More for several processes, because they do not start at the same moment.
        missing = processes * session.options.jobs - await session.place.waiting()
        if missing > 0:
            callers = max(session.options.concurrency)
            await session.write({}, names.PUSH, Task(path=names.PUSH, count=missing, callers=callers))
        found[names.drained_by(path, processes)] = await session.settle(processes, settings=settings)


async def visible(session: Session, found: Round) -> None:
    """Measure the time from a write until a search finds it, first without other load, then with it."""
    await session.calm()
    await session.with_ingest()
    await session.each(found, names.VISIBLE, writes=True)
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


async def equal_load(session: Session, found: Round) -> None:
    """Write at fixed rates, in turns: through the queue until applied, and directly."""
    await session.calm()
    await session.with_ingest()
    for rate in session.options.rates:
        count = max(1, round(rate * session.options.seconds))
        tasks = {
            names.at(path, rate): Task(path=path, count=count, rate=rate, warmup=_WARMUP_CALLS)
            for path in (names.APPLIED, names.UPSERT)
        }
        await session.by_turns(found, tasks, writes=True)


async def upsert(session: Session, found: Round) -> None:
    """Send Qdrant a request for each write."""
    await session.each(found, names.UPSERT, writes=True)


async def read(path: str, session: Session, found: Round) -> None:
    """Read, through the queue or directly."""
    await session.calm()
    await session.each(found, path)


async def delete(path: str, session: Session, found: Round) -> None:
    """Delete points and wait until they are gone, through the queue or directly."""
    tasks = session.tasks(path)
    first = await session.push_many({}, sum(task.warmup + task.count for task in tasks.values()))
    await session.calm()
    await session.with_ingest()
    for name, task in tasks.items():
        figure = await session.measure(found, name, msgspec.structs.replace(task, first=first))
        session.stored -= figure.sent
        first += task.warmup + task.count


async def ingest(session: Session, found: Round) -> None:
    """Search while another process drains a backlog as fast as it can. Turns without a search show what they cost."""
    options, seconds = session.options, session.options.seconds
    paths = {names.PAUSE: names.PAUSE, names.SEARCH_BESIDE: names.SEARCH}
    if options.peers:
        paths[names.QUERY_BESIDE] = names.QUERY
    await session.calm()
    await session.without_ingest()
    backlog = max(options.jobs, round(session.drain_rate * seconds * (1 + _LEAD) * len(paths)))
    await session.push_many({}, backlog)
    await session.with_ingest()
    while await session.place.waiting() >= _BEGUN * backlog:  # noqa: ASYNC110  # another process drains
        await asyncio.sleep(_TICK_S)
    tasks = {name: Task(path=path, count=_MANY, seconds=seconds) for name, path in paths.items()}
    rates = await session.by_turns(found, tasks)
    if not await session.place.waiting():
        session.notes.add("the backlog was drained before the searches beside it had ended")
    del found[names.PAUSE]
    for name, rate in rates.items():
        found[names.beside(name)] = Figure(calls=0, sent=0, rate=rate)
    await session.settle()


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
    found[names.ARQ] = await drained(session.place.arq_waiting, jobs, session.cpu_s)
    await worker.end()


async def timeline(session: Session, found: Round) -> None:
    """Follow single writes on an idle system through all their steps."""
    await session.calm()
    await session.without_ingest()
    worker = session.worker("ingest", module="memory_worker.bench.traced")
    await worker.ready(" started ")
    figure = await session.write({}, names.STEPS, Task(path=names.STEPS, count=session.options.calls))
    found |= steps(figure.times, worker.logged())
    await worker.end()


GROUPS: tuple[dict[str, Callable[[Session, Round], Awaitable[None]]], ...] = (
    {"push": push, "upsert": upsert},
    {"drain": drain, "upload": upload, "arq": arq},
    {"no-store": no_store},
    {"tracing": tracing},
    {"visible": visible},
    {"equal-load": equal_load},
    {"viewers": viewers},
    {"search": partial(read, names.SEARCH), "query": partial(read, names.QUERY)},
    {"get": partial(read, names.GET), "retrieve": partial(read, names.RETRIEVE)},
    {"delete": partial(delete, names.DELETED), "direct-delete": partial(delete, names.DIRECT_DELETE)},
    {"ingest": ingest},
    {"timeline": timeline},
)
"""The phases of a round. Peers run directly before or after their phase, because the speed of the machine varies."""
