"""The peer: one arq job per write, the way arq is usually used. Runs as a process of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from qdrant_client import AsyncQdrantClient, models

from memory_worker.bench.direct_calls import qdrant_access
from memory_worker.settings import Settings, load_settings

JOBS_AT_ONCE = 50
"""arq's default is 10; with 50 it is faster here."""


def queue_name(settings: Settings) -> str:
    """Return the name of arq's queue, which job ids begin with: all keys are removed with the place."""
    return f"{settings.queue_prefix}:peer"


def redis_settings(settings: Settings) -> RedisSettings:
    """Return arq's own settings for ``REDIS_URL``."""
    assert settings.redis_url is not None  # noqa: S101  # the benchmark has started or named a server
    found = RedisSettings.from_dsn(settings.redis_url.get_secret_value())
    login: dict[str, Any] = {"username": settings.redis_username, "password": settings.redis_password}
    files: dict[str, Any] = {
        "ssl_ca_certs": settings.redis_tls_ca_file,
        "ssl_certfile": settings.redis_tls_cert_file,
        "ssl_keyfile": settings.redis_tls_key_file,
    }
    changes: dict[str, Any] = {name: secret.get_secret_value() for name, secret in login.items() if secret}
    changes |= {name: str(path) for name, path in files.items() if path}
    return replace(found, ssl_check_hostname=found.ssl, **changes)


async def upsert(ctx: dict[str, Any], point_id: str, vector: list[float], payload: dict[str, Any]) -> None:
    """Write one point, as the job of an arq user would."""
    point = models.PointStruct(id=point_id, vector=vector, payload=payload)
    await ctx["qdrant"].upsert(ctx["collection"], points=[point], wait=True)


async def _main() -> None:
    settings = load_settings()
    queue = queue_name(settings)
    qdrant = AsyncQdrantClient(**qdrant_access(settings))
    worker = Worker(
        functions=[upsert],
        queue_name=queue,
        redis_pool=await create_pool(redis_settings(settings), default_queue_name=queue),
        max_jobs=JOBS_AT_ONCE,
        ctx={"qdrant": qdrant, "collection": settings.qdrant_memories_collection},
    )
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    await worker.async_run()


if __name__ == "__main__":
    uvloop.run(_main())  # as our own worker has it
