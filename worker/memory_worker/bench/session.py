"""The state of one run, and the steps that its phases share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from rich.progress import Progress

from memory_worker.bench import options as names
from memory_worker.bench.delay import addresses, farther_away
from memory_worker.bench.loops import Figure, Round, Task
from memory_worker.bench.options import Options
from memory_worker.bench.place import Place
from memory_worker.bench.processes import Process, cpu_s, serving, urls
from memory_worker.client.producer import PUSH_MAX_JOBS
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.settings import Settings

_WARMUP_CALLS, _WARMUP_EACH, _TIMES_AS_MANY = 20, 2, 10
_GROUP = 8 * PUSH_MAX_JOBS
_STALLED_S, _SAMPLE_S = 60.0, 0.02
_COUNTED_FROM, _COUNTED_TO = 0.05, 0.95


class Session:
    """The place of a run, its processes, and its state.

    ``stored`` is the number of points that the engine must have. ``drain_rate`` is the latest one measured. ``notes``
    are for readers of the figures. ``engines`` has the process ids of Redis and Qdrant, if they are known.
    """

    def __init__(self, settings: Settings, options: Options, place: Place, progress: Progress) -> None:
        self.settings = settings
        self.options = options
        self.place = place
        self.phases_done = 0
        self.processes: list[Process] = []
        self.engines = {name: pid for name, url in urls(settings).items() if (pid := serving(url)) is not None}
        self.stored, self.drain_rate, self._next = 0, 0.0, 0
        self.notes: set[str] = set()
        self._ingest: Process | None = None
        wanted = [phase for phase in (*names.PHASES, *names.PEERS) if options.wants(phase)]
        self._progress, self._bar = progress, progress.add_task("", total=options.rounds * len(wanted))

    def show(self, what: str) -> None:
        """Show the current step in the progress bar."""
        self._progress.update(self._bar, description=what, completed=self.phases_done)

    async def start(self) -> None:
        """Start the processes that run all the time."""
        self.show("processes start")
        if self.options.delay_ms:
            command = ("memory_worker.bench.delay", str(self.options.delay_ms), *addresses(self.settings))
            proxy = self.run("", *command)
            self.settings = farther_away(self.settings, *(await proxy.ready()).split()[1:])
        self.caller, self.other, search = self._caller(), self._caller(), self._worker("search")
        await asyncio.gather(self.caller.ready(), self.other.ready(), search.ready(" started "))

    def run(self, name: str, module: str, *arguments: str, **how: str) -> Process:
        """Start a module as a process. Its memory is reported under ``name``, unless that is empty."""
        self.processes.append(Process(name, self.settings, module, *arguments, **how))
        return self.processes[-1]

    def _caller(self) -> Process:
        load = (str(number) for number in (self.options.seed, self.options.users, self.options.points))
        return self.run("", "memory_worker.bench.calls", *load, leash="")  # it reads its input itself

    def _worker(self, role: str) -> Process:
        """Start a worker with the command that operators use."""
        return self.run(f"worker, {role}", "memory_worker", "run", "--role", role)

    async def end(self) -> None:
        """End all processes."""
        for process in reversed(self.processes):  # those that others need were started before them
            await process.end()

    async def with_ingest(self) -> Process:
        """Start an ingest process, unless one runs."""
        if self._ingest is None:
            self._ingest = self._worker("ingest")
            await self._ingest.ready(" started ")
        return self._ingest

    async def without_ingest(self) -> None:
        """Stop the ingest process, so that writes wait."""
        if self._ingest is not None:
            await self._ingest.end()
            self._ingest = None

    async def measure(self, found: Round, name: str, task: Task, caller: Process | None = None) -> Figure:
        """Let a caller run a task, and store its figure under ``name``."""
        self.show(name)
        found[name] = await (caller or self.caller).carry_out(task)
        return found[name]

    async def write(self, found: Round, name: str, task: Task, caller: Process | None = None) -> Figure:
        """Measure a task that writes new points."""
        first, self._next = self._next, self._next + task.warmup + task.count
        figure = await self.measure(found, name, msgspec.structs.replace(task, first=first), caller)
        self.stored += figure.sent
        return figure

    async def each(self, found: Round, path: str, *, writes: bool = False) -> None:
        """Measure a path with one caller, with many callers, and in an open loop if there is a rate."""
        options, measure = self.options, self.write if writes else self.measure
        await measure(found, names.by(path, 1), self.one_caller(path))
        if (callers := options.concurrency) > 1:
            calls, warmup = _TIMES_AS_MANY * options.calls, _WARMUP_EACH * callers
            task = Task(path=path, count=calls, callers=callers, warmup=warmup, seconds=options.seconds)
            await measure(found, names.by(path, callers), task)
        if options.rate:
            calls = max(1, round(options.rate * options.seconds))
            task = Task(path=path, count=calls, rate=options.rate, warmup=_WARMUP_CALLS)
            await measure(found, f"{path}, {options.rate:g}/s open loop", task)

    def one_caller(self, path: str) -> Task:
        """Return the task of a closed loop with one caller."""
        return Task(path=path, count=self.options.calls, warmup=min(_WARMUP_CALLS, self.options.calls))

    async def push_many(self, found: Round, count: int) -> int:
        """Push writes in large groups. Return the number of the first one."""
        await self.write(found, names.PUSH_MANY, Task(path=names.PUSH_MANY, count=count, group=_GROUP))
        return self._next - count

    async def settle(self) -> Figure:
        """Let an ingest process apply the whole backlog. Return how many writes it applied per second."""
        total, ingest = await self.place.waiting(), await self.with_ingest()
        self.show(names.DRAIN)
        return await drained(self.place.waiting, total, {ingest.name: ingest.pid, **self.engines})


async def drained(waiting: Callable[[], Awaitable[int]], total: int, pids: Mapping[str, int]) -> Figure:
    """Watch a backlog of ``total`` until it is empty. Return its rate and the CPU time of processes.

    The first and the last 5% do not count: workers are starting in the first, and the partitions become empty one after
    another in the last. Raises `MemoryWorkerError` if nothing leaves the backlog for a minute.
    """
    samples: list[tuple[float, int, dict[str, float]]] = []
    moved_at, done = time.monotonic(), -1
    while done < total:
        before, done = done, total - await waiting()
        samples.append((time.perf_counter(), done, {name: cpu_s(pid) for name, pid in pids.items()}))
        moved_at = moved_at if done == before else time.monotonic()
        if time.monotonic() - moved_at > _STALLED_S:
            raise MemoryWorkerError(f"{total - done:,} of {total:,} wait, and nothing has moved for {_STALLED_S:g} s")
        await asyncio.sleep(_SAMPLE_S)
    counted = [sample for sample in samples if _COUNTED_FROM * total <= sample[1] <= _COUNTED_TO * total]
    if not counted or counted[0][1] == counted[-1][1]:
        counted = samples
    (began, first, before_s), (ended, last, after_s) = counted[0], counted[-1]
    calls, took_s = last - first, max(1e-9, ended - began)
    cpu_us = {name: (after_s[name] - before_s[name]) / max(1, calls) * 1e6 for name in pids}
    return Figure(calls=calls, sent=total, rate=calls / took_s, cpu_us=cpu_us)
