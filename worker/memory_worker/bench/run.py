"""A run: its place, the points that are there from the beginning, rounds of all phases, and what comes once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from rich.progress import Progress

from memory_worker.bench.figures import Round
from memory_worker.bench.flat import Backlog, backlogs
from memory_worker.bench.machine import Engines, Machine, these_engines, this_machine
from memory_worker.bench.network import delayed, far, near
from memory_worker.bench.options import Options
from memory_worker.bench.peers import BESIDE, Peers
from memory_worker.bench.phases import Phase, Phases
from memory_worker.bench.place import own_place
from memory_worker.bench.processes import Processes
from memory_worker.bench.session import Session, engine_pids, session
from memory_worker.bench.usage import Memory
from memory_worker.settings import Settings

_QUIET = 0.25
"""Processes a core that may want to run before, for figures that anybody else could get."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run has found, raw. ``problems`` are what must not happen: with one, the figures are worth nothing.

    ``settled_s`` is how long the engine was busy with itself once the first points were stored.
    """

    machine: Machine
    engines: Engines
    dimension: int
    options: Options
    fill: Round
    settled_s: float
    rounds: list[Round]
    network: dict[str, Round]
    backlogs: list[Backlog]
    memory: dict[str, Memory]
    notes: list[str]
    problems: list[str]


async def measure(settings: Settings, options: Options, progress: Progress, *, embedded: bool) -> Found:
    """Measure all that is asked for on the servers of these settings, and leave nothing behind there."""
    machine = this_machine()
    described = await these_engines(settings, embedded=embedded)
    processes = Processes()
    async with _place_and_session(settings, options, processes, progress) as running:
        fill: Round = {}
        networks: dict[str, Round] = {}
        async with running.watched(running.engines), running.worker("search"):
            phases = Phases(running)
            await phases.fill(fill)
            settled_s = await running.place.settled()
            rounds = [await _round(number, phases, Peers(running), options) for number in range(options.rounds)]
            await running.settle()
            await running.without_ingest()
            if options.wants("network"):
                networks["nothing in between"] = await near(running)
        if options.wants("network"):
            networks |= {f"{delay_ms:g}": await far(running, delay_ms) for delay_ms in options.delays_ms}
            await running.settle()
        problems = await _problems(running)
        await running.without_ingest()
        flat = await backlogs(running)
        problems += [f"{what}: {count}" for what, count in processes.troubles.items()]
        return Found(
            machine=machine,
            engines=described,
            dimension=settings.qdrant_vector_dimension,
            options=options,
            fill=fill,
            settled_s=settled_s,
            rounds=rounds,
            network=networks,
            backlogs=flat,
            memory=running.memory,
            notes=[*_remarks(machine), *(f"{note} ({count} times)" for note, count in running.notes.items())],
            problems=problems,
        )


@asynccontextmanager
async def _place_and_session(
    settings: Settings, options: Options, processes: Processes, progress: Progress
) -> AsyncIterator[Session]:
    """Make the place; start those that call, behind the delay if there is to be one."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(own_place(settings))
        pids = engine_pids(settings)
        if options.delay_ms:
            settings = await stack.enter_async_context(delayed(processes, settings, options.delay_ms))
        yield await stack.enter_async_context(session(settings, options, place, processes, progress, engines=pids))


async def _round(number: int, phases: Phases, peers: Peers, options: Options) -> Round:
    """Run all phases, each with its peers beside it; in every other round the peers come first."""
    found: Round = {}
    for name, phase in phases.all().items():
        own = [phase] if options.wants(name) else []
        beside = _wanted(peers.all(), BESIDE.get(name, ()), options)
        for one in [*beside, *own] if number % 2 else [*own, *beside]:
            await one(found)
    return found


def _wanted(peers: Mapping[str, Phase], names: tuple[str, ...], options: Options) -> list[Phase]:
    return [peers[name] for name in names if options.wants(name)]


def _remarks(machine: Machine) -> list[str]:
    if machine.load <= _QUIET * machine.cores:
        return []
    return [f"the machine was not quiet before: a load of {machine.load:g} on {machine.cores} cores"]


async def _problems(running: Session) -> list[str]:
    """Look whether all that was pushed is there, and nothing else."""
    found = [f"{what}: {count}" for what, count in (await running.place.troubles()).items()]
    stored = await running.place.stored()
    if stored != running.ledger.stored:
        found.append(f"the engine has {stored:,} points, and should have {running.ledger.stored:,}")
    return found
