"""Where it was measured: the machine, the engines, and the versions of everything."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from memory_worker import __version__
from memory_worker.runtime.wiring import open_queue, open_store
from memory_worker.settings import Settings
from memory_worker.wire.connection import close_redis, queue_errors

_LIBRARIES = ("arq", "redis", "hiredis", "qdrant-client", "grpcio", "protobuf", "msgspec", "uvloop")
_GIB = 2**30


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine; ``load`` is how many processes wanted to run in the minute before."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load: float


class Engines(msgspec.Struct, frozen=True, kw_only=True):
    """Redis and Qdrant, and when what they have been given is on the disk."""

    redis: str
    redis_persistence: str
    qdrant: str
    libraries: dict[str, str]


def this_machine() -> Machine:
    """Describe the machine this runs on."""
    return Machine(
        cpu=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load=round(os.getloadavg()[0], 2),
    )


async def these_engines(settings: Settings, *, embedded: bool) -> Engines:
    """Describe the engines of these settings; ``embedded``: the vector engine is the one that comes with us.

    Raises `QueueUnavailable` or `StoreUnavailable`.
    """
    redis = open_queue(settings)
    try:
        with queue_errors():
            server = await redis.info("server")
            persistence = await redis.info("persistence")
    finally:
        await close_redis(redis)
    async with open_store(settings) as store:
        qdrant = await store.version()
    return Engines(
        redis=_redis(server),
        redis_persistence="append-only file" if persistence.get("aof_enabled") else "no append-only file",
        qdrant=f"Qdrant Edge {_installed('qdrant-edge-py')}, embedded" if embedded else f"Qdrant {qdrant}",
        libraries={"memory-worker": __version__, **{name: _installed(name) for name in _LIBRARIES}},
    )


def machine_line(machine: Machine, engines: Engines) -> str:
    """Return all of it in a line or two."""
    libraries = ", ".join(f"{name} {number}" for name, number in engines.libraries.items())
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.kernel}, {machine.python}; "
        f"load before: {machine.load:g}; {engines.redis} ({engines.redis_persistence}), {engines.qdrant}; {libraries}"
    )


def _redis(server: dict[str, object]) -> str:
    if server.get("server_name") == "valkey":
        return f"Valkey {server['valkey_version']}"
    return f"Redis {server.get('redis_version', '?')}"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        described = []
    found = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    return found[0] if found else platform.processor() or "unknown processor"
