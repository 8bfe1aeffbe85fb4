"""One run of the benchmark: what all of its phases share."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import msgspec
from rich.progress import Progress

from memory_worker.bench import names
from memory_worker.bench.drains import drained
from memory_worker.bench.figures import Figure, Round
from memory_worker.bench.load import Terms
from memory_worker.bench.options import Options
from memory_worker.bench.place import Place
from memory_worker.bench.processes import Caller, Processes, together
from memory_worker.bench.tasks import Task
from memory_worker.bench.usage import Memory, serving, watched
from memory_worker.settings import Settings

_WARMUP_CALLS = 20
_WARMUP_EACH = 2
_TIMES_AS_MANY = 10
"""Calls of many callers, for each call of one."""


class Ledger:
    """Which points have been written, each under a number of its own, and how many of them must be there."""

    def __init__(self, stock: int) -> None:
        self.stored = 0
        self._next = stock
        self._spare: list[range] = []

    def take(self, count: int) -> int:
        """Set ``count`` numbers apart for points that may be written; return the first."""
        first, self._next = self._next, self._next + count
        return first

    def spare(self, numbers: range) -> None:
        """Note points that have been written, and that may be deleted."""
        self._spare.append(numbers)

    def victims(self, count: int) -> int | None:
        """Return the first of ``count`` points that may be deleted; ``None``: there are not as many in a row."""
        for position, numbers in enumerate(self._spare):
            if len(numbers) >= count:
                self._spare[position] = numbers[count:]
                return numbers.start
        return None


@dataclass(slots=True)
class Session:
    """A run: its place, its processes, and what it has found besides figures."""

    settings: Settings
    options: Options
    place: Place
    processes: Processes
    progress: Progress
    own: Caller
    others: Caller
    direct: Caller
    engines: Mapping[str, int]
    ledger: Ledger
    drain_rate: float = 0.0
    memory: dict[str, Memory] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    _ingest: tuple[AsyncExitStack, int] | None = None

    @property
    def terms(self) -> Terms:
        """What the load depends on."""
        return terms(self.settings, self.options)

    @contextmanager
    def step(self, what: str, total: float | None) -> Iterator[Callable[[int], None]]:
        """Show that something is under way; yield what takes how far it is."""
        task = self.progress.add_task(what, total=total)
        try:
            yield lambda done: self.progress.update(task, completed=done)
        finally:
            self.progress.remove_task(task)

    async def measure(self, caller: Caller, found: Round | None, name: str, task: Task) -> Figure:
        """Have a task done; put what it came to into ``found`` under ``name``."""
        with self.step(name, task.count) as on_progress:
            (figure,) = await caller.run(task, on_progress=on_progress)
        if found is not None:
            found[name] = figure
        return figure

    async def write(self, caller: Caller, found: Round | None, name: str, task: Task) -> Figure:
        """Measure a task that writes points, under numbers of their own."""
        numbered = msgspec.structs.replace(task, first=self.ledger.take(task.warmup + task.count))
        figure = await self.measure(caller, found, name, numbered)
        self.ledger.stored += figure.sent
        return figure

    async def write_by_each(self, caller: Caller, found: Round, path: str) -> None:
        """Measure writes by one caller, by many, and in an open loop where that is asked for."""
        for name, task in self.loops(path):
            await self.write(caller, found, name, task)

    async def read_by_each(self, caller: Caller, found: Round, path: str) -> None:
        """Measure reads by one caller, by many, and in an open loop where that is asked for."""
        for name, task in self.loops(path):
            await self.measure(caller, found, name, task)

    def loops(self, path: str) -> list[tuple[str, Task]]:
        """Return the tasks by which a path is measured, with their names."""
        options = self.options
        tasks = [
            (names.by(path, callers), self.closed(path, callers)) for callers in dict.fromkeys((1, options.concurrency))
        ]
        if options.rate:
            count = max(1, round(options.rate * options.seconds))
            task = Task(path=path, count=count, rate=options.rate, warmup=_WARMUP_CALLS)
            tasks.append((names.at_rate(path, options.rate), task))
        return tasks

    def closed(self, path: str, callers: int) -> Task:
        """Return the task of a closed loop."""
        calls = self.options.calls
        if callers == 1:
            return Task(path=path, count=calls, warmup=min(_WARMUP_CALLS, calls))
        return Task(
            path=path,
            count=_TIMES_AS_MANY * calls,
            callers=callers,
            warmup=_WARMUP_EACH * callers,
            seconds=self.options.seconds,
        )

    async def push_bulk(self, count: int, found: Round | None = None) -> Figure:
        """Push writes with as few calls as are sensible."""
        first = self.ledger.take(count)
        figure = await self.measure(self.own, found, names.BULK, Task(path=names.BULK, first=first, count=count))
        self.ledger.stored += figure.sent
        self.ledger.spare(range(first, first + figure.sent))
        return figure

    async def settle(self) -> None:
        """Have all that waits applied."""
        if await self.place.waiting():
            await self.with_ingest()
            await self.drain()

    async def drain(self, name: str = "what waits is applied") -> Figure:
        """Wait until nothing waits; return how many a second left the queue."""
        total = await self.place.waiting()
        with self.step(name, total) as on_progress:
            return await drained(self.place.waiting, total, pids=self.engines, on_progress=on_progress)

    async def with_ingest(self) -> int:
        """Let one ingest process run from now on; return its process id."""
        if self._ingest is None:
            stack = AsyncExitStack()
            self._ingest = stack, await stack.enter_async_context(self.worker("ingest"))
        return self._ingest[1]

    async def without_ingest(self) -> None:
        """Let no ingest process run from now on: what is pushed waits."""
        running, self._ingest = self._ingest, None
        if running is not None:
            await running[0].aclose()

    @asynccontextmanager
    async def worker(self, role: str) -> AsyncIterator[int]:
        """Run a worker process, and watch its memory; yield its process id."""
        async with self.processes.worker(self.settings, role) as pid, self.watched({f"worker, {role}": pid}):
            yield pid

    @asynccontextmanager
    async def watched(self, pids: Mapping[str, int]) -> AsyncIterator[None]:
        """Watch the memory of processes, for the table of the whole run."""
        async with watched(pids) as seen:
            yield
        for name, memory in seen.items():
            self.memory[name] = _more(memory, self.memory.get(name))


@asynccontextmanager
async def session(
    settings: Settings,
    options: Options,
    place: Place,
    processes: Processes,
    progress: Progress,
    *,
    engines: Mapping[str, int],
) -> AsyncIterator[Session]:
    """Start those that call; yield what the phases need. ``engines`` are the processes of Redis and Qdrant."""
    shared = terms(settings, options)
    callers = [processes.caller(settings, kind, shared) for kind in ("own", "own", "direct")]
    async with together(*callers) as (own, others, direct):
        running = Session(
            settings=settings,
            options=options,
            place=place,
            processes=processes,
            progress=progress,
            own=own,
            others=others,
            direct=direct,
            engines=engines,
            ledger=Ledger(options.points),
        )
        try:
            yield running
        finally:
            await running.without_ingest()


def engine_pids(settings: Settings) -> dict[str, int]:
    """Return the process ids of Redis and Qdrant, as far as they run on this machine."""
    redis = settings.redis_url.get_secret_value() if settings.redis_url else ""
    found = {"Redis": serving(redis), "Qdrant": serving(settings.qdrant_url or "")}
    return {name: pid for name, pid in found.items() if pid is not None}


def terms(settings: Settings, options: Options) -> Terms:
    """Return what the load of a run depends on."""
    return Terms(
        seed=options.seed,
        users=options.users,
        dimension=settings.qdrant_vector_dimension,
        stock=options.points,
    )


def _more(one: Memory, other: Memory | None) -> Memory:
    if other is None:
        return one
    shares = [share for share in (one.pss_mib, other.pss_mib) if share is not None]
    return Memory(max(one.rss_peak_mib, other.rss_peak_mib), max(shares, default=None))
