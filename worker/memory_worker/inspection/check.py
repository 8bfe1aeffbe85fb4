"""The checks of ``memory-worker check``: is everything around the worker as it must be, and what to do if not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import CollectionUnfit, ConfigurationError, MemoryWorkerError, QueueError
from memory_worker.inspection.status import QueueStatus, by_role, collect_queue
from memory_worker.queue.processes import Process, living
from memory_worker.queue.server import Verdict, judge_server
from memory_worker.settings import Settings
from memory_worker.store.bulk import BulkMode
from memory_worker.store.channel import is_tls
from memory_worker.store.operations import CollectionRef
from memory_worker.store.store import VectorStore
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import read_meta

OLDEST_QDRANT = (1, 12)
GRAPHS_OF_USERS_ALONE = (1, 17)
MOST_SKEW_MS = 1000


class Check(msgspec.Struct, frozen=True):
    """What was looked at, the verdict, what was seen, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""


async def run_checks(settings: Settings, redis: Redis, store: VectorStore) -> AsyncIterator[Check]:
    """Yield the checks as they are done; a server that cannot be reached ends its own checks only."""
    try:
        async for check in _check_redis(settings, redis):
            yield check
    except MemoryWorkerError as error:
        yield Check("Redis", "failed", str(error), "Is it running, and is REDIS_URL right? Are the credentials?")
    try:
        async for check in _check_qdrant(settings, store):
            yield check
    except MemoryWorkerError as error:
        yield Check("Qdrant", "failed", str(error), "Is it running, and is QDRANT_URL its gRPC port (6334)?")


async def _check_redis(settings: Settings, redis: Redis) -> AsyncIterator[Check]:
    for judged in await judge_server(redis, allow_eviction=settings.redis_allow_eviction):
        yield Check(judged.name, judged.verdict, judged.seen, judged.advice)
    clock = RedisClock()
    await clock.refresh(redis)
    yield _skew(clock.offset_ms)
    keys = Keys(settings.queue_prefix)
    meta = await read_meta(redis, keys)
    yield _partitions(settings.queue_partitions, meta.partitions if meta else None)
    yield _workers(await collect_queue(redis, keys), await living(redis, keys))


async def _check_qdrant(settings: Settings, store: VectorStore) -> AsyncIterator[Check]:
    version = await store.version()
    number = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if number < OLDEST_QDRANT:
        yield Check("Qdrant version", "warning", version, "Older than what this worker is tested with.")
    else:
        yield Check("Qdrant version", "ok", version)
    if settings.qdrant_api_key and settings.qdrant_url and not is_tls(settings.qdrant_url):
        yield _key_in_the_clear(settings.qdrant_url)
    yield _graphs(settings.qdrant_hnsw_m, settings.qdrant_hnsw_payload_m, number)
    for ref in store.collections.bases():
        yield await _check_collection(store, ref)
    try:
        async for check in _check_namespaces(store):
            yield check
        yield await _check_bulk_mode(store)
    except QueueError as error:
        yield Check("namespaces", "warning", str(error), "Redis holds the registry of namespaces: see there.")


def _key_in_the_clear(url: str) -> Check:
    seen = "QDRANT_API_KEY is sent in the clear: QDRANT_URL does not begin with https://"
    if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
        return Check("Qdrant API key", "ok", f"{seen}; it stays on this machine")
    return Check("Qdrant API key", "warning", seen, "Use https://, unless the network between them is encrypted.")


async def _check_collection(store: VectorStore, ref: CollectionRef) -> Check:
    name = store.collections.name(ref)
    try:
        info = await store.collections.describe_and_check(ref)
    except CollectionUnfit as error:
        return Check(f"collection {name}", "warning", str(error), "Upserts to this namespace become dead letters.")
    except ConfigurationError as error:
        return Check(f"collection {name}", "failed", str(error), "Set QDRANT_VECTOR_DIMENSION, or migrate the data.")
    if info is None:
        return Check(f"collection {name}", "ok", "not there yet; a worker makes it when it starts")
    missing = sorted(set(store.collections.indexes(ref)) - set(info.payload_schema))
    if missing:
        return Check(
            f"collection {name}",
            "warning",
            f"no index on {', '.join(missing)}",
            "A worker makes them when it starts; searches that filter by them are slow until then.",
        )
    unlike = store.collections.differing_settings(info)
    if unlike:
        return Check(
            f"collection {name}",
            "warning",
            "; ".join(unlike),
            f"Such settings hold for new collections. PATCH /collections/{name} of Qdrant changes this one; "
            "it builds the index anew.",
        )
    return Check(f"collection {name}", "ok", f"{info.points_count:,} points, all payload indexes")


async def _check_namespaces(store: VectorStore) -> AsyncIterator[Check]:
    """Check the namespaces of this deployment that exist; say which collections are not taken for namespaces."""
    try:
        await store.collections.check_distinct()
    except ConfigurationError as error:
        yield Check("aliases", "failed", str(error), "Remove the alias; no purge is applied until then.")
    for ref in await store.collections.existing():
        if ref.namespace is not None:
            yield await _check_collection(store, ref)
    for name in await store.collections.foreign():
        yield Check(
            f"collection {name}",
            "ok",
            "not of this deployment: neither read, written nor purged until a job names it; "
            "name it in QDRANT_NAMESPACES if it is",
        )


async def _check_bulk_mode(store: VectorStore) -> Check:
    held = [state.name for state in await BulkMode(store.collections).state() if state.held]
    if held:
        seen = f"indexing is held back in {', '.join(held)}"
        return Check("bulk mode", "warning", seen, "When the import is done: memory-worker bulk off.")
    return Check("bulk mode", "ok", "off")


def _graphs(m: int, payload_m: int | None, qdrant: tuple[int, ...]) -> Check:
    """Tell what graphs are built in new collections."""
    if not m and not payload_m:
        return Check(
            "HNSW settings",
            "warning",
            "no graph: QDRANT_HNSW_M is 0, and QDRANT_HNSW_PAYLOAD_M is not above it",
            "In new collections each search scans all points of its user. Meant? Else set QDRANT_HNSW_PAYLOAD_M=16.",
        )
    if not m and qdrant < GRAPHS_OF_USERS_ALONE:
        return Check(
            "HNSW settings",
            "warning",
            "QDRANT_HNSW_M is 0, but this Qdrant builds graphs for all frequent payload values, not for users alone",
            "That takes longer than one graph over all points. Use Qdrant 1.17 or newer, or leave QDRANT_HNSW_M at 16.",
        )
    among = m if payload_m is None else payload_m
    return Check("HNSW settings", "ok", f"edges a node: {m}, among one user's points: {among}")


def _skew(offset_ms: float) -> Check:
    seen = f"Redis is {offset_ms:+.0f} ms from this machine"
    if abs(offset_ms) > MOST_SKEW_MS:
        return Check("clocks", "warning", seen, "Let both machines follow a time server: jobs fall due late.")
    return Check("clocks", "ok", seen)


def _partitions(wanted: int, fixed: int | None) -> Check:
    if fixed is None:
        return Check("partitions", "ok", f"not fixed yet; {wanted} at first use")
    if fixed != wanted:
        return Check("partitions", "failed", f"{fixed} in Redis, QUEUE_PARTITIONS is {wanted}", "Set them alike.")
    return Check("partitions", "ok", str(fixed))


def _workers(queue: QueueStatus, processes: list[Process]) -> Check:
    """Say who lives, and whether anybody does the jobs that wait."""
    counts = by_role(processes)
    seen = ", ".join(f"{count} {role}" for role, count in counts.items() if count) or "none lives"
    if queue.waiting and not counts["ingest"] + counts["all"]:
        what, role = f"{queue.waiting:,} writes wait", "ingest"
    elif queue.reads_waiting and not counts["search"] + counts["all"]:
        what, role = f"{queue.reads_waiting:,} reads wait", "search"
    else:
        return Check("workers", "ok", seen)
    return Check(
        "workers", "warning", f"{seen}; {what}", f"Nobody does them. Start `memory-worker run --role {role}`, or `all`."
    )
