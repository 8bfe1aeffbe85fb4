"""The checks of ``memory-worker check``: whether Redis, Qdrant and the settings fit, and what to do if not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from redis.asyncio import Redis

from memory_worker.contract.errors import CollectionUnfit, ConfigurationError, MemoryWorkerError, QueueError
from memory_worker.inspection.check_index_settings import check_graphs, check_tuning
from memory_worker.inspection.check_kinds import (
    check_indexes,
    held_partitions,
    kinds_in_force,
    published_kinds,
    unserved_collections,
)
from memory_worker.inspection.checks import Check
from memory_worker.inspection.status import QueueStatus, by_role, collect_queue
from memory_worker.queue.processes import Process, living
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.queue.server import check_server
from memory_worker.settings import Settings
from memory_worker.store.bulk import BulkMode
from memory_worker.store.channel import is_tls
from memory_worker.store.operations import CollectionRef
from memory_worker.store.server_version import version_of
from memory_worker.store.store import VectorStore
from memory_worker.store.tuning import Tuner
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import read_meta

OLDEST_QDRANT = (1, 12)
MAX_SKEW_MS = 1000


async def run_checks(settings: Settings, redis: Redis, store: VectorStore) -> AsyncIterator[Check]:
    """Run the checks, and yield each result. If a server is unreachable, only its own checks are skipped."""
    try:
        async for check in _check_redis(settings, redis):
            yield check
    except MemoryWorkerError as error:
        yield Check(
            "Redis", "failed", str(error), "Check that it is running, and that REDIS_URL and the credentials are right."
        )
    try:
        async for check in _check_qdrant(settings, store):
            yield check
    except MemoryWorkerError as error:
        yield Check(
            "Qdrant", "failed", str(error), "Check that it is running, and that QDRANT_URL has its gRPC port (6334)."
        )


async def _check_redis(settings: Settings, redis: Redis) -> AsyncIterator[Check]:
    for found in await check_server(redis, allow_eviction=settings.redis_allow_eviction, prefix=settings.queue_prefix):
        yield Check(found.name, found.verdict, found.seen, found.advice)
    clock = RedisClock()
    await clock.refresh(redis)
    yield _skew(clock.offset_ms)
    keys = Keys(settings.queue_prefix)
    meta = await read_meta(redis, keys)
    yield _partitions(settings.queue_partitions, meta.partitions if meta else None)
    queue = await collect_queue(redis, keys)
    yield _workers(queue, await living(redis, keys))
    yield held_partitions(queue)
    yield _pause(queue)
    for check in kinds_in_force(settings.limits):
        yield check
    yield published_kinds(settings.limits, meta.limits if meta else None)
    registered = await CollectionRegistry(redis, keys).names()
    if unserved := unserved_collections(registered, settings.kinds, keys.collections):
        yield unserved


async def _check_qdrant(settings: Settings, store: VectorStore) -> AsyncIterator[Check]:
    version = await store.version()
    if version_of(version) < OLDEST_QDRANT:
        yield Check("Qdrant version", "warning", version, "This worker is not tested with versions this old.")
    else:
        yield Check("Qdrant version", "ok", version)
    if settings.qdrant_api_key and settings.qdrant_url and not is_tls(settings.qdrant_url):
        yield _unencrypted_key(settings.qdrant_url)
    yield check_graphs(store.collections.shape, version_of(version))
    for ref in store.collections.bases():
        yield await _check_collection(store, ref)
    try:
        async for check in _check_namespaces(store):
            yield check
        yield await _check_bulk_mode(store)
    except QueueError as error:
        yield Check("namespaces", "warning", str(error), "The registry of namespaces is in Redis. See its checks.")


def _unencrypted_key(url: str) -> Check:
    seen = "QDRANT_API_KEY is sent unencrypted, because QDRANT_URL does not begin with https://"
    if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
        return Check("Qdrant API key", "ok", f"{seen}; it stays on this machine")
    return Check("Qdrant API key", "warning", seen, "Use https://, unless the network is encrypted.")


async def _check_collection(store: VectorStore, ref: CollectionRef) -> Check:
    name = store.collections.name(ref)
    try:
        info = await store.collections.describe_and_check(ref)
    except CollectionUnfit as error:
        return Check(f"collection {name}", "warning", str(error), "Upserts to this namespace become dead letters.")
    except ConfigurationError as error:
        return Check(f"collection {name}", "failed", str(error), "Correct the setting, or migrate the data.")
    if info is None:
        return Check(f"collection {name}", "ok", "does not exist yet; a worker creates it when it starts")
    problem = check_indexes(name, store.collections.indexes(ref), info.payload_schema)
    plan = await Tuner(store.collections).plan(ref)
    if plan is not None and (problem is None or plan.finds_too_little):
        problem = check_tuning(plan) or problem
    return problem or Check(f"collection {name}", "ok", f"{info.points_count:,} points, all payload indexes")


async def _check_namespaces(store: VectorStore) -> AsyncIterator[Check]:
    """Check the existing namespaces of this deployment, and name the collections that only look like namespaces."""
    try:
        await store.collections.check_distinct()
    except ConfigurationError as error:
        yield Check("aliases", "failed", str(error), "Remove the alias. Until then no purge is applied.")
    for ref in await store.collections.existing():
        if ref.namespace is not None:
            yield await _check_collection(store, ref)
    for name in await store.collections.foreign():
        yield Check(
            f"collection {name}",
            "ok",
            "not of this deployment: not read, written or purged until a job names it; if it belongs to this "
            "deployment, add it to QDRANT_NAMESPACES",
        )


async def _check_bulk_mode(store: VectorStore) -> Check:
    held = [state.name for state in await BulkMode(store.collections).state() if state.held]
    if held:
        seen = f"indexing is held back in {', '.join(held)}"
        return Check("bulk mode", "warning", seen, "After the import, run `memory-worker bulk off`.")
    return Check("bulk mode", "ok", "off")


def _pause(queue: QueueStatus) -> Check:
    if queue.paused is None:
        return Check("pause", "ok", "workers apply writes")
    return Check("pause", "warning", str(queue.paused), "To go on, run `memory-worker resume`.")


def _skew(offset_ms: float) -> Check:
    seen = f"the clock of Redis differs by {offset_ms:+.0f} ms from this machine"
    if abs(offset_ms) > MAX_SKEW_MS:
        return Check("clocks", "warning", seen, "Synchronize the clocks of both machines with a time server.")
    return Check("clocks", "ok", seen)


def _partitions(wanted: int, fixed: int | None) -> Check:
    if fixed is None:
        return Check("partitions", "ok", f"not set yet; {wanted} from the first use")
    if fixed != wanted:
        return Check(
            "partitions",
            "failed",
            f"{fixed} in Redis, QUEUE_PARTITIONS is {wanted}",
            "Set QUEUE_PARTITIONS to the number in Redis.",
        )
    return Check("partitions", "ok", str(fixed))


def _workers(queue: QueueStatus, processes: list[Process]) -> Check:
    """Check that workers run for the jobs that wait."""
    counts = by_role(processes)
    seen = ", ".join(f"{count} {role}" for role, count in counts.items() if count) or "none"
    if queue.waiting and not counts["ingest"] + counts["all"]:
        what, role = f"{queue.waiting:,} writes wait", "ingest"
    elif queue.arq_writes_waiting and not counts["ingest"] + counts["all"]:
        what, role = f"{queue.arq_writes_waiting:,} writes of arq's own client wait", "ingest"
    elif queue.reads_waiting and not counts["search"] + counts["all"]:
        what, role = f"{queue.reads_waiting:,} reads wait", "search"
    else:
        return Check("workers", "ok", seen)
    return Check(
        "workers", "warning", f"{seen}; {what}", f"Start a worker: `memory-worker run --role {role}`, or `--role all`."
    )
