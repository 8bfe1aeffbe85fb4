"""arq's own client as an app has it: its pool with a serializer that workers read, and jobs as it enqueues them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from arq import ArqRedis, create_pool
from arq.connections import RedisSettings

from memory_worker.contract import WriteJob, encode_job, op_of

SERIALIZERS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "json": (lambda record: json.dumps(record).encode(), json.loads),
    "msgspec.json": (msgspec.json.encode, msgspec.json.decode),
}


@asynccontextmanager
async def arq_pool(url: str, serializer: str | None = "msgpack", **options: Any) -> AsyncIterator[ArqRedis]:
    """Open arq's pool. Without a ``serializer`` it pickles, which is arq's default."""
    encode, decode = SERIALIZERS[serializer] if serializer else (None, None)
    settings = RedisSettings.from_dsn(url)
    pool = await create_pool(settings, job_serializer=encode, job_deserializer=decode, **options)
    try:
        yield pool
    finally:
        await pool.aclose()


def arguments(job: WriteJob, serializer: str) -> tuple[str, dict[str, Any]]:
    """Return the function and the arguments by which an app enqueues a job."""
    document = msgspec.msgpack.decode(encode_job(job))
    if serializer == "json" and "vector" in document:  # json knows no bytes
        document["vector"] = base64.b64encode(document["vector"]).decode()
    del document["op"]
    return op_of(job), document
