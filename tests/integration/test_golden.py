"""The Python client behaves as the golden files say: its public methods on a real Redis, without a worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from memory_worker.client import AdminQueue, InvalidJob, MemoryQueue, MemoryWorkerError, QueueError, Receipt
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.keys import Keys
from memory_worker.wire.scripts import scripts
from tests.golden_answers import error_form
from tests.golden_files import FOLDER
from tests.golden_recorder import ADMIN, invoke, meta_fields
from tests.golden_values import to_form

Clients = Callable[..., AbstractAsyncContextManager[dict[str, Any]]]


def stored(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def exact(value: Any) -> str:
    """Return a text that differs for an integer and a float, and for 0.0 and -0.0."""
    return json.dumps(to_form(value), sort_keys=True)


@pytest.fixture
def clients(redis: Redis, redis_url: str, redis_prefix: str) -> Clients:
    """Open clients for limits that workers have published: one for users, and one for all users."""

    @asynccontextmanager
    async def opened(limits: str, **changes: Any) -> AsyncIterator[dict[str, Any]]:
        keys = Keys(redis_prefix)
        await redis.delete(keys.meta)
        fields = meta_fields({**stored("limits.json")[limits], **changes})
        if fields:
            await redis.hset(keys.meta, mapping=fields)
        async with (
            MemoryQueue.connect(redis_url, prefix=redis_prefix) as queue,
            AdminQueue.connect(redis_url, prefix=redis_prefix) as admin,
        ):
            yield {"": queue, ADMIN: admin}

    return opened


async def ask(clients: dict[str, Any], case: dict[str, Any]) -> Any:
    """Call the method of a case."""
    admin = ADMIN if case["method"].endswith(ADMIN) else ""
    return await invoke(clients[admin], case["method"], case["args"])


async def entries(redis: Redis, keys: Keys, receipts: list[Receipt]) -> list[dict[str, Any]]:
    """Return what is stored for each receipt."""
    found = []
    for receipt in receipts:
        ((_, fields),) = await redis.xrange(keys.stream(receipt.partition), receipt.entry_id, receipt.entry_id)
        job = msgspec.msgpack.decode(fields[b"j"])
        found.append({"job": job, "version": int(fields[b"v"]), "partition": receipt.partition})
    return found


@pytest.mark.parametrize("partitions", [32, 7])
async def test_writes_are_stored_as_the_files_say(redis: Redis, keys: Keys, clients: Clients, partitions: int) -> None:
    cases = stored("jobs.json")["writes"]
    for limits in {case["limits"]: None for case in cases}:
        if limits == "none" and partitions != 32:
            continue
        await redis.flushdb() if False else await redis.delete(keys.meta)
        changes = {} if limits == "none" else {"partitions": partitions}
        async with clients(limits, **changes) as opened:
            for case in (case for case in cases if case["limits"] == limits):
                receipts = await ask(opened, case)
                receipts = receipts if isinstance(receipts, list) else [receipts]
                for entry, expected in zip(await entries(redis, keys, receipts), case["jobs"], strict=True):
                    wanted = msgspec.msgpack.decode(bytes.fromhex(expected["msgpack"]))
                    assert exact(without_defaults(entry["job"])) == exact(wanted), case["name"]
                    assert entry["version"] == expected["version"], case["name"]
                    assert entry["partition"] == expected["partitions"][str(partitions)], case["name"]
