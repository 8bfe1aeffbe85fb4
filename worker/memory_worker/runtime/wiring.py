"""Builds the parts from the settings: connections, the store, and an embedded engine for each URL that is not set."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.budget import ReadMemoryLimits
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import ConfigurationError, QueueError
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.retry import RetryPolicy
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.settings import Settings
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.connection import Access, close_redis, open_redis, queue_errors
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta

if TYPE_CHECKING:
    from memory_worker.embedded.engines import Engine
    from memory_worker.store.shape import CollectionShape
    from memory_worker.store.store import VectorStore

logger = logging.getLogger(__name__)

_NOT_FOR_EMBEDDED_REDIS = dict.fromkeys(
    ("redis_username", "redis_password", "redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file")
)
_NOT_FOR_EMBEDDED_QDRANT = dict.fromkeys(("qdrant_api_key", "qdrant_tls_ca_file"))
"""Credentials and certificates of a server do not apply to an embedded engine."""
_MIN_SMALL_BYTES = 65_536


@contextmanager
def engines_where_unset(settings: Settings, parts: Container[str] = ("redis", "qdrant")) -> Iterator[Settings]:
    """Start an embedded engine for each URL of ``parts`` that is not set, and yield settings with all URLs.

    If the engine already runs, it is shared. Call this before an event loop runs. Raises `EmbeddedEngineError`.
    """
    mixed = (settings.redis_url is None) != (settings.qdrant_url is None)
    # The default depends on which URLs are unset, so it is resolved before they get values.
    settings = settings.model_copy(update={"bind_host": settings.http_host})
    with ExitStack() as engines:
        if settings.redis_url is None and "redis" in parts:
            from memory_worker.embedded.engines import start_valkey  # noqa: PLC0415  # loads gRPC

            port = settings.embedded_redis_port or None
            valkey = engines.enter_context(start_valkey(settings.data_dir, port=port))
            _report("valkey", valkey, "REDIS_URL is not set", mixed=mixed)
            settings = settings.model_copy(update={**_NOT_FOR_EMBEDDED_REDIS, "redis_url": SecretStr(valkey.url)})
        if settings.qdrant_url is None and "qdrant" in parts:
            from memory_worker.embedded.engines import start_edge  # noqa: PLC0415  # loads gRPC

            edge = engines.enter_context(start_edge(settings.data_dir, optimize=settings.embedded_optimize))
            _report("vectors", edge, "QDRANT_URL is not set", mixed=mixed)
            settings = settings.model_copy(update={**_NOT_FOR_EMBEDDED_QDRANT, "qdrant_url": edge.url})
        yield settings


def open_queue(settings: Settings) -> Redis:
    """Return a pool of connections to ``REDIS_URL``. Nothing connects yet."""
    return open_redis(
        _redis_url(settings),
        timeout_s=settings.redis_timeout_s,
        access=_access(settings),
        prefix=settings.queue_prefix,
    )


def open_client(settings: Settings) -> MemoryQueue:
    """Return a client of the queue, as apps use it."""
    return MemoryQueue(_redis_url(settings), prefix=settings.queue_prefix, access=_access(settings))


def open_store(settings: Settings, redis: Redis | None = None) -> VectorStore:
    """Return the store at ``QDRANT_URL``. Call this in the event loop that uses it.

    The registry of collections is in ``redis``. Without it, the only known namespaces are those in the settings.
    """
    # Imported here, because gRPC takes a second to load, and not every command needs Qdrant.
    from memory_worker.store.reader import AnswerLimits  # noqa: PLC0415
    from memory_worker.store.registry import MemoryRegistry  # noqa: PLC0415
    from memory_worker.store.store import VectorStore  # noqa: PLC0415

    if settings.qdrant_url is None:
        raise ConfigurationError("QDRANT_URL is not set")
    api_key, limits = settings.qdrant_api_key, read_memory_limits(settings)
    return VectorStore(
        settings.qdrant_url,
        collection_shape(settings),
        registry=(
            MemoryRegistry(settings.queue_prefix)
            if redis is None
            else CollectionRegistry(redis, Keys(settings.queue_prefix))
        ),
        api_key=api_key.get_secret_value() if api_key else None,
        tls_ca_file=settings.qdrant_tls_ca_file,
        timeout_s=settings.qdrant_timeout_s,
        answers=AnswerLimits(limits.small_answer_bytes, limits.max_answer_bytes),
    )


def collection_shape(settings: Settings) -> CollectionShape:
    """Return the names of the collections, and the settings of new ones."""
    from memory_worker.store.shape import CollectionShape  # noqa: PLC0415  # loads gRPC

    return CollectionShape(
        kinds=settings.kinds,
        namespaces=settings.namespaces,
        dimension=settings.qdrant_vector_dimension,
        quantize_int8=settings.qdrant_quantization == "int8",
        hnsw_m=settings.qdrant_hnsw_m,
        hnsw_payload_m=settings.qdrant_hnsw_payload_m,
        hnsw_ef_construct=settings.qdrant_hnsw_ef_construct,
        indexing_threshold_kb=settings.qdrant_indexing_threshold_kb,
        tenant_index=settings.qdrant_tenant_index,
        on_disk=settings.qdrant_on_disk,
        shard_number=settings.qdrant_shard_number,
        replication_factor=settings.qdrant_replication_factor,
        write_consistency_factor=settings.qdrant_write_consistency_factor,
    )


@asynccontextmanager
async def connected_queue(settings: Settings) -> AsyncIterator[Redis]:
    """Open Redis, and close it at the end. Errors while it closes are ignored, so that they do not hide others."""
    redis = open_queue(settings)
    try:
        yield redis
    finally:
        with suppress(QueueError), queue_errors():
            await close_redis(redis)


@asynccontextmanager
async def connected_queue_and_store(settings: Settings) -> AsyncIterator[tuple[Redis, VectorStore]]:
    """Open Redis and the store, whose registry is in Redis. Close both at the end."""
    async with connected_queue(settings) as redis, open_store(settings, redis) as store:
        yield redis, store


def read_memory_limits(settings: Settings) -> ReadMemoryLimits:
    """Return the limits of answers to reads. Half of the budget is for small answers, which never wait."""
    half = settings.read_budget_bytes // 2
    return ReadMemoryLimits(
        max_answer_bytes=settings.read_max_bytes,
        small_answer_bytes=max(_MIN_SMALL_BYTES, half // settings.search_concurrency),
        budget_bytes=half,
        max_replies_bytes=settings.replies_max_bytes,
    )


def admin_memory_limits(settings: Settings) -> ReadMemoryLimits:
    """Return the limits of answers to reads of all users: one large answer at a time."""
    return read_memory_limits(settings)._replace(budget_bytes=settings.read_max_bytes)


def _redis_url(settings: Settings) -> str:
    if settings.redis_url is None:
        raise ConfigurationError("REDIS_URL is not set")
    return settings.redis_url.get_secret_value()


def _access(settings: Settings) -> Access:
    username, password = settings.redis_username, settings.redis_password
    return Access(
        username=username.get_secret_value() if username else None,
        password=password.get_secret_value() if password else None,
        tls_ca_file=settings.redis_tls_ca_file,
        tls_cert_file=settings.redis_tls_cert_file,
        tls_key_file=settings.redis_tls_key_file,
    )


def drain_options(settings: Settings) -> DrainOptions:
    """Return the options of drains."""
    return DrainOptions(
        partitions=settings.queue_partitions,
        limits=settings.limits,
        batch_max_jobs=settings.batch_max_jobs,
        batch_max_bytes=settings.batch_max_bytes,
        slice_s=settings.drain_slice_s,
        lease_ttl_s=settings.lease_ttl_s,
        request_timeout_s=settings.qdrant_timeout_s,
        retry=RetryPolicy(settings.retry_base_s, settings.retry_max_s),
        min_replicas=settings.queue_min_replicas,
        outcomes_max=settings.outcomes_max,
        read_priority_requests=settings.read_priority_requests,
    )


def queue_meta(settings: Settings) -> QueueMeta:
    """Return the number of partitions and the limits that workers publish for producers."""
    return QueueMeta(
        partitions=settings.queue_partitions,
        limits=settings.limits,
        max_jobs=settings.queue_max_jobs,
        max_bytes=settings.queue_max_bytes,
        max_reads=settings.search_max_waiting,
        min_replicas=settings.queue_min_replicas,
        user_burst=settings.queue_user_burst,
    )


def _report(name: str, engine: Engine, reason: str, *, mixed: bool) -> None:
    """Log an engine. If it is ``mixed`` with a server elsewhere, an address is probably missing: that is a warning."""
    level = logging.WARNING if mixed else logging.INFO
    log_event(logger, level, "embedded_engine", engine=name, url=engine.url, owned=engine.owned, reason=reason)
