"""Our own phases: each measures one path, or several beside each other.

A search process runs all the time, and does nothing unless asked. An ingest process is started where it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from memory_worker.bench import names
from memory_worker.bench.drains import drained
from memory_worker.bench.figures import Figure, Round
from memory_worker.bench.own_calls import FLOOD
from memory_worker.bench.session import Session
from memory_worker.bench.tasks import Task

LOADS = (0.2, 0.8)
"""Shares of the drain's rate at which others write while one is measured."""

_PROBES_A_SECOND = 75.0
_LEAD = 0.3
"""Time for a load to be felt before anything is measured beside it, as a share of the time for many callers."""
_KEPT = 0.95
_BEGUN = 0.98
_MIXED = {names.SEARCH: 4, names.GET: 2, names.VISIBLE: 1, names.DELETED: 1}
"""Parts of the callers."""
_DELETED_TIMES = 3
"""Points set aside to be deleted in the mix, for each call of a latency."""
_MANY = 1_000_000

Phase = Callable[[Round], Awaitable[None]]


class Phases:
    """The phases by name; `fill` goes before them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._options = session.options

    def all(self) -> Mapping[str, Phase]:
        """Return the phases of a round, in their order."""
        return {
            "push": self.push,
            "drain": self.drain,
            "visible": self.visible,
            "search": self.search,
            "get": self.get,
            "delete": self.delete,
            "mixed": self.mixed,
            "ingest": self.ingest,
        }

    async def fill(self, found: Round) -> None:
        """Store the points that reads look for, in the fastest way we have: push in bulk, drain meanwhile."""
        session, total = self._session, self._options.points
        await session.with_ingest()
        with session.step(names.FILL, total) as on_progress:
            (pushed,) = await session.own.run(Task(path=names.BULK, count=total), on_progress=on_progress)
        session.ledger.stored += pushed.sent
        took_s = pushed.took_s + (await session.drain(names.FILL)).took_s
        found[names.FILL] = Figure(
            loop="total", calls=pushed.calls, sent=total, took_s=took_s, rate=total / took_s, errors=pushed.errors
        )
        session.drain_rate = found[names.FILL].rate

    async def push(self, found: Round) -> None:
        """Push with nobody to apply it: a backlog is left for the drain."""
        session = self._session
        await session.without_ingest()
        await session.write_by_each(session.own, found, names.PUSH)
        await session.push_bulk(max(1, self._options.jobs // 2), found)

    async def drain(self, found: Round) -> None:
        """Have one process drain a backlog that was there before it."""
        session = self._session
        await session.without_ingest()
        missing = self._options.jobs - await session.place.waiting()
        if missing > 0:
            singles = Task(path=names.PUSH, count=missing, callers=self._options.concurrency)
            await session.write(session.own, None, "a backlog is built", singles)
        total = await session.place.waiting()
        pids = {"worker": await session.with_ingest(), **session.engines}
        with session.step(names.DRAIN, total) as on_progress:
            figure = await drained(session.place.waiting, total, pids=pids, on_progress=on_progress)
        found[names.DRAIN] = figure
        session.drain_rate = figure.rate

    async def visible(self, found: Round) -> None:
        """Write, and wait until a search finds it: alone, and while others write."""
        session = self._session
        await session.with_ingest()
        await session.settle()
        await session.write(session.own, found, names.IDLE, session.closed(names.VISIBLE, 1))
        for load in LOADS:
            await self._visible_at(load, found)
            await session.drain()

    async def _visible_at(self, load: float, found: Round) -> None:
        session, calls = self._session, self._options.calls
        rate, lead_s = load * session.drain_rate, _LEAD * self._options.seconds
        flood = Task(path=FLOOD, count=max(1, round(rate * (calls / _PROBES_A_SECOND + 2 * lead_s))), rate=rate)
        probe = Task(path=names.VISIBLE, count=calls, rate=_PROBES_A_SECOND)
        flooding = asyncio.create_task(session.write(session.others, found, names.load_of(load), flood))
        try:
            await asyncio.sleep(lead_s)
            await session.write(session.own, found, names.visible_at(load), probe)
            others = await flooding
        finally:
            flooding.cancel()
        if others.rate < _KEPT * rate:
            session.notes[f"{load:.0%} load: those who made it could not keep its rate"] += 1

    async def search(self, found: Round) -> None:
        """Search, through the queue and straight at the engine."""
        session = self._session
        await session.settle()
        await session.read_by_each(session.own, found, names.SEARCH)
        await session.measure(session.direct, found, names.STRAIGHT, session.closed(names.STRAIGHT, 1))

    async def get(self, found: Round) -> None:
        """Read points by their ids."""
        session = self._session
        await session.settle()
        await session.read_by_each(session.own, found, names.GET)

    async def delete(self, found: Round) -> None:
        """Push deletes with nobody to apply them; then delete until applied."""
        session = self._session
        tasks = [*session.loops(names.DELETE), (names.DELETED, session.closed(names.DELETED, 1))]
        first = await self._victims(sum(task.warmup + task.count for _, task in tasks))
        await session.without_ingest()
        for name, task in tasks:
            if name == names.DELETED:
                await session.settle()
                await session.with_ingest()
            figure = await session.measure(session.own, found, name, msgspec.structs.replace(task, first=first))
            session.ledger.stored -= figure.sent
            first += figure.sent

    async def _victims(self, count: int) -> int:
        """Return the first of so many points that are there, to be deleted; store them where there are too few."""
        session = self._session
        first = session.ledger.victims(count)
        if first is None:
            await session.push_bulk(count)
            first = session.ledger.victims(count)
        await session.settle()
        return first or 0

    async def mixed(self, found: Round) -> None:
        """Search, get, write and delete at the same time, with a process for each role."""
        session, options = self._session, self._options
        victims = await self._victims(_DELETED_TIMES * options.calls)
        await session.with_ingest()
        tasks = {path: self._part(path, parts, victims) for path, parts in _MIXED.items()}
        with session.step("mixed", None):
            figures = await session.own.run(*tasks.values())
        for path, figure in zip(tasks, figures, strict=True):
            found[names.in_mix(path)] = figure
        written, deleted = (found[names.in_mix(path)].sent for path in (names.VISIBLE, names.DELETED))
        session.ledger.stored += written - deleted

    def _part(self, path: str, parts: int, victims: int) -> Task:
        options = self._options
        callers = max(1, options.concurrency * parts // sum(_MIXED.values()))
        count = _DELETED_TIMES * options.calls if path == names.DELETED else _MANY
        first = {names.VISIBLE: self._session.ledger.take(_MANY), names.DELETED: victims}.get(path, 0)
        return Task(path=path, first=first, count=count, callers=callers, seconds=options.seconds)

    async def ingest(self, found: Round) -> None:
        """Search while another process drains a backlog as fast as it can."""
        session, options = self._session, self._options
        await session.settle()
        await session.without_ingest()
        backlog = max(options.jobs, round(session.drain_rate * options.seconds * (1 + _LEAD)))
        await session.push_bulk(backlog)
        search = Task(path=names.SEARCH, count=_MANY, seconds=options.seconds)
        await session.with_ingest()
        await session.place.falls_below(round(_BEGUN * backlog))
        await session.measure(session.own, found, names.DURING_INGEST, search)
        if not await session.place.waiting():
            session.notes["the backlog ran out before the searches beside it had ended"] += 1
        await session.drain()
