"""Tools that some tests need and that no package brings, and arq's own client."""

from __future__ import annotations

import os
import shutil

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from memory_worker.wire.arq_records import decode_arq, encode_arq


def tool(name: str) -> str:
    """Return where a tool is. A missing one skips the test, or fails it where ``TEST_REQUIRED_TOOLS`` names it."""
    found = shutil.which(name)
    if found is None:
        if name in os.environ.get("TEST_REQUIRED_TOOLS", "").split():
            pytest.fail(f"there is no {name}")
        pytest.skip(f"there is no {name}")
    return found


def arq_client(redis: Redis) -> ArqRedis:
    """Return arq's own client on the connections of ``redis``, with the serializer that workers read."""
    return ArqRedis(redis.connection_pool, job_serializer=encode_arq, job_deserializer=decode_arq)
