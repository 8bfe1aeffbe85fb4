"""Backups of servers and their restore, with the commands of docs/backups.md."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.pausing import pause_queue, resume_queue
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.pause import read_pause
from tests.commands import run_here
from tests.documents import ROOT, blocks
from tests.integration.conftest import API_KEY, Contents, MakeSettings, connected, running
from tests.integration.jobs import DIMENSION, axis
from tests.servers import RedisServer
from tests.tools import tool

PAGE = ROOT / "docs" / "backups.md"
_, _, _, BACKUP, _, RESTORE, *_ = blocks([PAGE], "bash")


async def upsert(queue: MemoryQueue, number: int, *, wait: bool = True) -> None:
    receipt = await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(0))
    if wait:
        await queue.wait_applied(receipt, timeout=20)


async def test_an_old_copy_of_redis_is_discarded(
    settings: MakeSettings, own_redis: RedisServer, quick_directory: Path, tmp_path: Path, keys: Keys
) -> None:
    """The copy was made during a pause. So no worker applies its old jobs, and they can be thrown away."""
    copying = [tool("redis-cli"), "-u", own_redis.url, "--rdb", str(tmp_path / "dump.rdb")]
    assert " ".join(["redis-cli", "-u", '"$REDIS_URL"', *copying[3:4]]) in BACKUP.body
    chosen = settings(redis_url=SecretStr(own_redis.url))
    async with running(chosen), MemoryQueue.connect(own_redis.url, prefix=keys.prefix) as queue:
        await upsert(queue, 1)
        async with connected(own_redis.url) as redis:
            await pause_queue(redis, keys, by="ops", reason="backup")
            await upsert(queue, 2, wait=False)
            await asyncio.to_thread(subprocess.run, copying, check=True, capture_output=True, timeout=20)
            await resume_queue(redis, keys)
        await upsert(queue, 3)
        await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_2"), timeout=20)
    own_redis.kill()

    restored = RedisServer(quick_directory / f"restored-{keys.prefix}")
    shutil.copy(tmp_path / "dump.rdb", restored.directory)
    restored.start("--appendonly", "no")
    try:
        async with connected(restored.url) as redis:
            await redis.config_set("appendonly", "yes")
            pause = await read_pause(redis, keys)
        assert pause is not None
        assert pause.reason == "backup"
        environment = {"REDIS_URL": restored.url, "QDRANT_URL": "http://x:1", "QUEUE_PREFIX": keys.prefix}
        chosen = settings(redis_url=SecretStr(restored.url))
        async with running(chosen), MemoryQueue.connect(restored.url, prefix=keys.prefix) as queue:
            printed = await asyncio.to_thread(run_here, "discard", "--yes", **environment)
            assert printed.endswith("1 discarded\n")
            await asyncio.to_thread(run_here, "resume", **environment)
            await upsert(queue, 4)
            found = {point.point_id for point in (await queue.list(user_id=1)).points}
            assert found == {"mem_1_1", "mem_1_3", "mem_1_4"}
    finally:
        restored.kill()


def http_of_qdrant() -> str:
    """Return the address of the HTTP port of ``TEST_QDRANT_URL``, which is the one below that of gRPC."""
    url = os.environ.get("TEST_QDRANT_URL")
    if not url:
        pytest.skip("TEST_QDRANT_URL is not set: the embedded engine has no snapshots")
    parts = urlsplit(url)
    host, port = parts.hostname or "", (parts.port or 6334) - 1
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        pytest.skip(f"Qdrant has no HTTP port {port}")
    return f"http://{host}:{port}"


async def test_a_backup_of_both_servers_is_restored(
    settings: MakeSettings,
    queue: MemoryQueue,
    redis_url: str,
    qdrant_url: str,
    keys: Keys,
    shape: CollectionShape,
    engine: Contents,
    tmp_path: Path,
) -> None:
    http = http_of_qdrant()
    tool("redis-cli"), tool("curl")
    names = {"QDRANT_MEMORIES_COLLECTION": shape.base("memory"), "QDRANT_DOCUMENTS_COLLECTION": shape.base("document")}
    environment = {
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": keys.prefix,
        **names,
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        **({"QDRANT_API_KEY": API_KEY} if API_KEY else {}),
    }

    async def run(body: str) -> None:
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-ec", f"QDRANT={http} KEY={API_KEY or ''}\n{body}"],
            cwd=tmp_path,
            env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"

    async with running(settings()):
        await upsert(queue, 1)
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0), namespace="work"))
        await run(BACKUP.body.partition("\n")[2])
        await upsert(queue, 3)
        await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_1"))
    assert (tmp_path / "backup" / "dump.rdb").stat().st_size > 0
    for name in (shape.base("memory"), f"{shape.base('memory')}_work"):
        engine.drop(name)
    await asyncio.to_thread(run_here, "pause", **environment)
    await run(RESTORE.body)
    async with running(settings()):
        waiting = await queue.upsert(user_id=1, point_id="mem_1_4", vector=axis(0))
        assert engine.points(shape.base("memory")) == {"mem_1_1"}
        assert engine.points(f"{shape.base('memory')}_work") == {"mem_1_2"}
        await asyncio.to_thread(run_here, "resume", **environment)
        await queue.wait_applied(waiting, timeout=20)
        assert await queue.count(user_id=1) == 2
