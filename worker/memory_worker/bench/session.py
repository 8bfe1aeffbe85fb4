"""The state of one run, and the steps that its phases share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from rich.progress import Progress

from memory_worker.bench import options as names
from memory_worker.bench.delay import HOST, addresses, farther_away, round_trip_ms
from memory_worker.bench.loops import Figure, Round, Task, merged
from memory_worker.bench.options import Options
from memory_worker.bench.place import Place
from memory_worker.bench.processes import Process, cpu_s, memory_mib, serving, urls
from memory_worker.client.producer import PUSH_MAX_JOBS
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.settings import Settings

_WARMUP_CALLS, _WARMUP_EACH, _TIMES_AS_MANY = 20, 2, 10
_GROUP = 8 * PUSH_MAX_JOBS
_TURNS = 4
_STALLED_S, _SAMPLE_S, _REST_S = 60.0, 0.02, 0.5
_COUNTED_FROM, _COUNTED_TO = 0.05, 0.95


class Session:
    """The place of a run, its processes, and its state.

    ``stored`` is the number of points that the engine must have. ``drain_rate`` is the latest one measured. ``notes``
    are for readers of the figures. ``engines`` has the process ids of Redis and Qdrant, if they are known. ``rest_mib``
    has the memory of each role before it works.
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
        self.rest_mib: dict[str, float] = {}
        self._ingest: list[Process] = []
        wanted = [phase for phase in (*names.PHASES, *names.PEERS, *names.EXTRAS) if options.wants(phase)]
        self._progress, self._bar = progress, progress.add_task("", total=options.rounds * len(wanted))

    def show(self, what: str) -> None:
        """Show the current step in the progress bar."""
        self._progress.update(self._bar, description=what, completed=self.phases_done)

    async def start(self) -> None:
        """Start the processes that run all the time. Unless only some phases run, also measure all roles at rest."""
        self.show("processes start")
        if self.options.delay_ms:
            await self._go_farther_away(self.options.delay_ms)
        self.caller, self.other = self._caller("caller"), self._caller("caller, load")
        wanted = ("search",) if self.options.only else ("search", "ingest", "all")
        roles = {role: self.worker(role) for role in wanted}
        ready = (process.ready(" started ") for process in roles.values())
        await asyncio.gather(self.caller.ready(), self.other.ready(), *ready)
        await asyncio.sleep(_REST_S)
        self._search = roles["search"]
        self.rest_mib = {process.name: memory_mib(process.pid) for process in roles.values()}
        await asyncio.gather(*(process.end() for role, process in roles.items() if role != "search"))

    async def _go_farther_away(self, delay_ms: float) -> None:
        """Put proxies between, whose delay is shorter by the time that a first one took for its own work."""
        targets = addresses(self.settings)
        direct_ms = await asyncio.to_thread(round_trip_ms, targets[0])

        async def proxy(name: str, target: str, delay_ms: float) -> tuple[Process, str]:
            process = self.run(name, "memory_worker.bench.delay", str(delay_ms), target)
            return process, (await process.ready()).split()[1]

        async def hop_ms(port: str) -> float:
            return (await asyncio.to_thread(round_trip_ms, f"{HOST}:{port}") - direct_ms) / 2

        first, port = await proxy("", targets[0], delay_ms)
        work_ms = await hop_ms(port) - delay_ms
        await first.end()
        made = [await proxy("delay", target, max(0.0, delay_ms - work_ms)) for target in targets]
        redis_port, qdrant_port = (port for _, port in made)
        self.settings = farther_away(self.settings, redis_port, qdrant_port)
        self.notes.add(f"a hop with the delay of {delay_ms:g} ms took {await hop_ms(redis_port):.2f} ms")

    def run(self, name: str, module: str, *arguments: str, settings: Settings | None = None, **how: Any) -> Process:
        """Start a module as a process. Its memory is reported under ``name``, unless that is empty.

        It has the settings of this run unless others are given. For ``how`` see `Process`. Its CPU time counts for the
        part that is named up to the first comma.
        """
        self.processes.append(Process(name, settings or self.settings, module, *arguments, **how))
        return self.processes[-1]

    def _caller(self, name: str) -> Process:
        load = (str(number) for number in (self.options.seed, self.options.users, self.options.points))
        return self.run(name, "memory_worker.bench.calls", *load, leash="")  # it reads its input itself

    def worker(self, role: str, *, module: str = "memory_worker", **how: Any) -> Process:
        """Start a worker with the command that operators use. For ``how`` see `run`."""
        return self.run(f"worker, {role}", module, "run", "--role", role, **how)

    async def console_port(self) -> int:
        """Return the port of the console of the search process."""
        return int((await self._search.ready(" http ")).rpartition("port=")[2])

    async def end(self) -> None:
        """End all processes."""
        for process in reversed(self.processes):  # those that others need were started before them
            await process.end()

    async def with_ingest(self, count: int = 1, **how: Any) -> None:
        """Start ingest processes, unless any run. For ``how`` see `run`."""
        if not self._ingest:
            self._ingest = [self.worker("ingest", **how) for _ in range(count)]
            await asyncio.gather(*(process.ready(" started ") for process in self._ingest))

    async def without_ingest(self) -> None:
        """Stop the ingest processes, so that writes wait."""
        await asyncio.gather(*(process.end() for process in self._ingest))
        self._ingest = []

    def cpu_s(self) -> Mapping[str, float]:
        """Return the CPU time that each part has used so far."""
        parts = [*((process.name, process.pid) for process in self.processes if process.is_running)]
        used: dict[str, float] = {}
        for name, pid in (*parts, *self.engines.items()):
            part = name.partition(",")[0]
            used[part] = used.get(part, 0.0) + cpu_s(pid)
        return used

    async def measure(self, found: Round, name: str, task: Task, caller: Process | None = None) -> Figure:
        """Let a caller run a task, and store its figure under ``name``."""
        self.show(name)
        before = self.cpu_s()
        figure = await (caller or self.caller).carry_out(task)
        found[name] = msgspec.structs.replace(figure, cpu_us=per_call(before, self.cpu_s(), figure.sent))
        return found[name]

    async def write(self, found: Round, name: str, task: Task, caller: Process | None = None) -> Figure:
        """Measure a task that writes new points."""
        first, self._next = self._next, self._next + task.warmup + task.count
        figure = await self.measure(found, name, msgspec.structs.replace(task, first=first), caller)
        self.stored += figure.sent
        return figure

    async def each(self, found: Round, path: str, *, writes: bool = False) -> None:
        """Measure a path with one caller, and with each number of many callers."""
        for name, task in self.tasks(path).items():
            await (self.write if writes else self.measure)(found, name, task)

    def tasks(self, path: str) -> dict[str, Task]:
        """Return closed loops by their names: with one caller, and with each number of many callers."""
        options, tasks = self.options, {names.by(path, 1): self.one_caller(path)}
        for callers in options.concurrency:
            if callers > 1:
                calls, warmup = _TIMES_AS_MANY * options.calls, _WARMUP_EACH * callers
                task = Task(path=path, count=calls, callers=callers, warmup=warmup, seconds=options.seconds)
                tasks[names.by(path, callers)] = task
        return tasks

    def one_caller(self, path: str) -> Task:
        """Return the task of a closed loop with one caller."""
        return Task(path=path, count=self.options.calls, warmup=min(_WARMUP_CALLS, self.options.calls))

    async def by_turns(self, found: Round, tasks: Mapping[str, Task], *, writes: bool = False) -> dict[str, float]:
        """Measure tasks in short turns, in alternating order. Return how many writes were drained per second of each.

        ``writes`` says that they write new points.
        """
        measure = self.write if writes else self.measure
        figures: dict[str, list[Figure]] = {name: [] for name in tasks}
        drained, took_s = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0.0)
        for turn in range(_TURNS):
            for name in [*tasks][:: -1 if turn % 2 else 1]:
                task = tasks[name]
                count, warmup = max(1, task.count // _TURNS), 0 if turn else task.warmup
                part = msgspec.structs.replace(
                    task, count=count, warmup=warmup, seconds=task.seconds / _TURNS, raw=True
                )
                waiting, started = await self.place.waiting(), time.perf_counter()
                figures[name].append(await measure({}, name, part))
                took_s[name] += time.perf_counter() - started
                drained[name] += waiting - await self.place.waiting()
        found |= {name: merged(parts) for name, parts in figures.items()}
        return {name: drained[name] / took_s[name] for name in tasks}

    async def calm(self) -> None:
        """Let everything that waits be applied, and the engine end its own work."""
        if await self.place.waiting():
            await self.settle()
        if not await self.place.settle():
            self.notes.add("the engine was still optimizing its collections when a phase began")

    async def push_many(self, found: Round, count: int) -> int:
        """Push writes in large groups. Return the number of the first one."""
        await self.write(found, names.PUSH_MANY, Task(path=names.PUSH_MANY, count=count, group=_GROUP))
        return self._next - count

    async def settle(self, processes: int = 1, **how: Any) -> Figure:
        """Let the ingest processes apply the whole backlog, as `with_ingest`. Return how many per second."""
        total = await self.place.waiting()
        await self.with_ingest(processes, **how)
        self.show(names.DRAIN)
        return await drained(self.place.waiting, total, self.cpu_s)


def per_call(before_s: Mapping[str, float], after_s: Mapping[str, float], calls: int) -> dict[str, float]:
    """Return the CPU time of each part per call in microseconds."""
    return {name: (after_s[name] - before_s.get(name, 0.0)) / max(1, calls) * 1e6 for name in after_s}


async def drained(
    waiting: Callable[[], Awaitable[int]], total: int, cpu_s: Callable[[], Mapping[str, float]]
) -> Figure:
    """Watch a backlog of ``total`` until it is empty. Return its rate and the CPU time of each part per write.

    The first and the last 5% do not count: workers are starting in the first, and the partitions become empty one after
    another in the last. Raises `MemoryWorkerError` if nothing leaves the backlog for a minute.
    """
    samples: list[tuple[float, int, Mapping[str, float]]] = []
    moved_at, done = time.monotonic(), -1
    while done < total:
        before, done = done, total - await waiting()
        samples.append((time.perf_counter(), done, cpu_s()))
        moved_at = moved_at if done == before else time.monotonic()
        if time.monotonic() - moved_at > _STALLED_S:
            raise MemoryWorkerError(f"{total - done:,} of {total:,} wait, and nothing has moved for {_STALLED_S:g} s")
        await asyncio.sleep(_SAMPLE_S)
    counted = [sample for sample in samples if _COUNTED_FROM * total <= sample[1] <= _COUNTED_TO * total]
    if not counted or counted[0][1] == counted[-1][1]:
        counted = samples
    (began, first, before_s), (ended, last, after_s) = counted[0], counted[-1]
    calls, took_s = last - first, max(1e-9, ended - began)
    return Figure(calls=calls, sent=total, rate=calls / took_s, cpu_us=per_call(before_s, after_s, calls))
