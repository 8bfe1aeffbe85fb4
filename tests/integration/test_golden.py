"""The Python client behaves as the golden files say: its public methods on a real Redis, without a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from memory_worker.client import AdminQueue, InvalidJob, MemoryQueue, MemoryWorkerError, Receipt
from memory_worker.contract import convert_read, decode_write
from memory_worker.contract.read_jobs import READ_OPS, ReadJob
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.keys import Keys, admin_reads, user_reads
from memory_worker.wire.scripts import scripts
from tests.golden_answers import error_form
from tests.golden_files import FOLDER
from tests.golden_recorder import ADMIN, invoke, meta_fields, plain
from tests.golden_values import to_form

SIGNAL_TIMEOUT_S = 5
JOB_TYPES = dict(zip(READ_OPS, ReadJob.__args__, strict=True))
ANY_REPLY = msgspec.msgpack.encode({"ok": True, "health": {"version": "", "engine_ms": 0}})

Ask = Callable[[dict[str, Any]], Any]
"""Calls the method of a case, and returns its result."""


def stored(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def by_limits(cases: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the cases by the name of their limits."""
    return {
        limits: [case for case in cases if case["limits"] == limits]
        for limits in dict.fromkeys(case["limits"] for case in cases)
    }


def exact(value: Any) -> str:
    """Return a text that differs for an integer and a float, for 0.0 and -0.0, and for texts and bytes."""
    return json.dumps(to_form(value), sort_keys=True)


def sent(job: dict[str, Any]) -> Any:
    """Return the golden map of a job."""
    return msgspec.msgpack.decode(bytes.fromhex(job["msgpack"]))


@pytest.fixture
def clients(redis: Redis, redis_url: str, keys: Keys) -> Callable[..., AbstractAsyncContextManager[Ask]]:
    """Publish limits, and open clients for them: one for users, and one for all users."""

    @asynccontextmanager
    async def opened(limits: str, **changes: int) -> AsyncIterator[Ask]:
        await redis.delete(keys.meta)
        if limits != "none":
            await redis.hset(keys.meta, mapping=meta_fields({**stored("limits.json")[limits], **changes}))
        async with (
            MemoryQueue.connect(redis_url, prefix=keys.prefix) as queue,
            AdminQueue.connect(redis_url, prefix=keys.prefix) as admin,
        ):
            yield lambda case: invoke(admin if case["method"].endswith(ADMIN) else queue, case["method"], case["args"])

    return opened


async def entry(redis: Redis, keys: Keys, receipt: Receipt) -> dict[bytes, bytes]:
    """Return the fields of the entry of a receipt."""
    ((_, fields),) = await redis.xrange(keys.stream(receipt.partition), receipt.entry_id, receipt.entry_id)
    return fields


@pytest.mark.parametrize("partitions", [32, 7])
async def test_writes_are_stored_as_the_files_say(redis: Redis, keys: Keys, clients: Any, partitions: int) -> None:
    for limits, cases in by_limits(stored("jobs.json")["writes"]).items():
        async with clients(limits, partitions=partitions) as ask:
            for case in cases:
                found = await ask(case)
                receipts = found if isinstance(found, list) else [found]
                for receipt, expected in zip(receipts, case["jobs"], strict=True):
                    fields = await entry(redis, keys, receipt)
                    assert exact(plain(decode_write(fields[b"j"]))) == exact(sent(expected)), case["name"]
                    assert int(fields[b"v"]) == expected["version"], case["name"]
                    if limits != "none":  # in which there are always 32 partitions
                        assert receipt.partition == expected["partitions"][str(partitions)], case["name"]


async def answered(redis: Redis, keys: Keys, ask: Ask, case: dict[str, Any], reply: bytes) -> tuple[Any, Any]:
    """Call a read, and reply to its job. Return the job as it was sent, and the result or the error of the call."""
    queue = admin_reads(keys) if case["method"].endswith(ADMIN) else user_reads(keys)
    calling = asyncio.create_task(ask(case))
    assert await redis.blpop(queue.wakeup, SIGNAL_TIMEOUT_S), case["name"]
    ((job_id, _),) = await redis.zpopmin(queue.name)
    record = decode_arq(await redis.get(keys.arq_job(job_id.decode())))
    await redis.rpush(record["k"]["reply_to"], reply)
    (result,) = await asyncio.gather(calling, return_exceptions=True)
    return record["a"][0], result


async def test_reads_are_sent_as_the_files_say(redis: Redis, keys: Keys, clients: Any) -> None:
    await redis.hset(keys.since, "epoch", 1)
    await redis.xadd(keys.applied(17), {"n": 1}, id="1732000000000-0")
    for limits, cases in by_limits(stored("jobs.json")["reads"]).items():
        async with clients(limits) as ask:
            for case in cases:
                job, result = await answered(redis, keys, ask, case, ANY_REPLY)
                assert not isinstance(result, Exception), case["name"]
                found, wanted = plain(convert_read(job, JOB_TYPES[job["op"]])), sent(case["job"])
                assert 0 < job["timeout_ms"] <= wanted["timeout_ms"], case["name"]
                assert exact({**found, "timeout_ms": 0}) == exact({**wanted, "timeout_ms": 0}), case["name"]


async def test_replies_are_read_as_the_files_say(redis: Redis, keys: Keys, clients: Any) -> None:
    async with clients("default") as ask:
        for case in stored("replies.json"):
            if case["msgpack"] is None:
                with pytest.raises(MemoryWorkerError) as caught:
                    await ask(case)
                result = caught.value
            else:
                _, result = await answered(redis, keys, ask, case, bytes.fromhex(case["msgpack"]))
            if "error" in case:
                assert error_form(result) == case["error"], case["name"]
            else:
                assert exact(result) == exact(case["result"]), case["name"]
            await redis.delete(keys.search_queue, keys.search_wakeup)


async def test_calls_are_refused_as_the_files_say(redis: Redis, keys: Keys, clients: Any) -> None:
    for limits, cases in by_limits(stored("errors.json")["cases"]).items():
        async with clients(limits) as ask:
            for case in cases:
                with pytest.raises(InvalidJob) as caught:
                    await ask(case)
                expected = {name: value for name, value in case["error"].items() if name != "message_is_from"}
                assert error_form(caught.value) == expected, case["name"]
    assert not await redis.exists(keys.backlog, keys.search_queue, keys.admin_queue)


async def test_outcomes_are_read_as_the_files_say(redis: Redis, keys: Keys, clients: Any) -> None:
    cases = stored("outcomes.json")
    for case in cases:
        await redis.xadd(keys.outcomes, case["fields"], id=case["id"])
    expected = [case["outcome"] for case in cases]
    async with clients("default") as ask:
        assert to_form(await ask({"method": "outcomes", "args": {}})) == expected
        behind = to_form(await ask({"method": "outcomes", "args": {"after": cases[0]["id"]}}))
        assert behind == expected[1:]
        (first, *others) = to_form(await ask({"method": "outcomes", "args": {"after": "1-5"}}))
        assert [first, *others] == [{**expected[1], "gap": True}, *expected[2:]]


@pytest.mark.parametrize("case", stored("states.json"), ids=lambda case: case["name"])
async def test_states_are_as_the_files_say(redis: Redis, keys: Keys, clients: Any, case: dict[str, Any]) -> None:
    for words in case["redis"]:
        await redis.execute_command(*(word.replace("mw:", f"{keys.prefix}:", 1) for word in words))
    receipt, waits = {"receipt": case["receipt"]}, case["wait_applied"]
    names = [keys.since, keys.applied(5), keys.dead(5), keys.removed(5)]
    found = await scripts.run(redis, "states", names, [1, 5, 1, "1000-1", f"{1000:020}-{1:020}"])
    assert in_text(found) == case["script"]
    async with clients("default") as ask:
        assert to_form(await ask({"method": "states", "args": {"receipts": [receipt]}})) == [case["state"]]
        error = None
        try:
            await ask({"method": "wait_applied", "args": {"receipt": receipt, "timeout": waits["timeout"]}})
        except MemoryWorkerError as raised:
            error = error_form(raised)
        assert error == waits["error"]


def in_text(found: Any) -> Any:
    return [in_text(item) for item in found] if isinstance(found, list) else found.decode()


async def test_scripts_have_the_hashes_of_the_files(redis: Redis) -> None:
    for name, sha1 in stored("scripts.json").items():
        assert await redis.script_load(scripts.source(name)) in (sha1, sha1.encode())
