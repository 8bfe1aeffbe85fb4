"""The arguments of the client's methods: accepted as meant, or refused by name before anything is stored."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Get, Info, Purge, Receipt, Search, Upsert
from memory_worker.contract.arguments import excerpt
from memory_worker.contract.errors import InvalidJob, NotApplied
from memory_worker.contract.vectors import MAX_NORM, MIN_NORM
from memory_worker.queue.partitions import publish_meta
from memory_worker.runtime.process import WorkerProcess
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration.conftest import Everything
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS, axis

RECEIPT = Receipt(0, "1-0")
GOOD: dict[str, dict[str, Any]] = {
    "upsert": {"user_id": 1, "point_id": "mem_1_1", "vector": axis(0)},
    "delete": {"user_id": 1, "point_ids": ["mem_1_1"]},
    "purge": {"user_id": 1},
    "search": {"user_id": 1, "vector": axis(0)},
    "get": {"user_id": 1, "point_ids": ["mem_1_1"]},
    "info": {},
    "wait_applied": {"receipt": RECEIPT},
    "patch": {"user_id": 1, "point_ids": ["mem_1_1"], "set": {"value": "x"}},
    "patch_file": {"user_id": 1, "file_id": 5, "unset": ["text"]},
    "prune": {"user_id": 1, "file_id": 5, "version": 1},
    "replace_file": {"user_id": 1, "file_id": 5, "version": 1, "chunks": []},
    "upsert_many": {"points": []},
    "push_many": {"jobs": []},
}
NEVER: list[Any] = [True, b"x", UUID(int=1), Decimal(1), ["x"], {"x": 1}, {"x"}, object(), (n for n in "x"), math.nan]
NUMBERS: list[Any] = [*NEVER, None, "1", math.inf, 10**400, 10**5000, -(10**5000), Fraction(10**400), np.True_]
TEXTS: list[Any] = [*NEVER, 5, 1.5, np.int64(5), "\ud800"]
LISTS: list[Any] = [None, "mem_1_1", b"mem_1_1", {"mem_1_1": 1}, 5, object()]
TIMES: list[Any] = [*NUMBERS, 0, -1, -0.0, 3601, 1e300]
VECTORS: list[Any] = [None, "text", 5, {0: 1.0}, {1.0}, object(), np.ones((1, DIMENSION)), [3e38] * DIMENSION, b"x"]
PAYLOADS: list[Any] = ["text", "", b"x", 5, 0, False, [], [("a", 1)], {"a"}, object()]

FILE_CHUNK: dict[str, Any] = {"point_id": "doc_1_5_0", "vector": axis(0), "payload": {"text": "x"}}
CHUNKS: list[Any] = [None, "text", 5, {"point_id": "x"}, [None], [5], [{}], [RECEIPT], [{**FILE_CHUNK, "x": 1}]]
UNSET_NAMES: list[Any] = [None, "text", b"x", 5, ["_version"], ["user_id"], [5], ["a.b"]]
WRITES = ("upsert", "delete", "purge", "patch", "patch_file", "prune", "replace_file")

WRONG: list[tuple[str, str, list[Any]]] = [
    *((method, "user_id", [*NUMBERS, 1.0, 0, -1, 2**63]) for method in (*WRITES, "search", "get")),
    *((method, "kind", [*TEXTS, None, "", "memories"]) for method in (*WRITES, "search", "get")),
    *((method, "namespace", [*TEXTS, "", "Upper"]) for method in (*(set(WRITES) - {"purge"}), "search", "get")),
    *((method, "ref", [*TEXTS, "", "x" * 129]) for method in WRITES),
    *((method, "notify", [None, 1, "true", 0.0]) for method in WRITES),
    *((method, "version", [*NUMBERS, 1.0, 0, 2**53 + 1]) for method in ("prune", "replace_file")),
    *((method, "file_id", [*NUMBERS, 1.0, 2**63]) for method in ("patch_file", "prune", "replace_file")),
    *((method, "unset", UNSET_NAMES) for method in ("patch", "patch_file")),
    ("patch", "point_ids", [*LISTS, []]),
    ("patch", "point_id", [*TEXTS, None, "", "mem_2_1"]),
    ("patch", "category", [None]),
    ("patch", "set", [*PAYLOADS, {}, None, {"_point_id": "x"}, {"value": None}, {"active": "yes"}]),
    ("purge", "before", [*NUMBERS, 1.0, 0, 2**53 + 1]),
    ("purge", "other_than_model", [*NUMBERS, 1.0, 2**63]),
    ("replace_file", "chunks", CHUNKS),
    *((method, "category", [*TEXTS, None]) for method in ("purge", "search")),
    *((method, "group_key", [*TEXTS, None]) for method in ("purge", "search")),
    *((method, "file_id", [*NUMBERS, 1.0, 2**63]) for method in ("purge", "search")),
    *((method, "vector", VECTORS) for method in ("upsert", "search")),
    *((method, "point_ids", LISTS) for method in ("delete", "get")),
    *((method, "timeout", TIMES) for method in ("search", "get", "info", "wait_applied")),
    *((method, "timeout", [60.5, np.float64(61)]) for method in ("search", "get", "info")),
    ("purge", "namespace", [*TEXTS, None, ""]),
    ("upsert", "point_id", [*TEXTS, None, "", "mem_2_1", "doc_1_1", "mem_1_ü", "mem_1_a\n"]),
    ("delete", "point_id", [*TEXTS, "", "mem_2_1"]),
    ("upsert", "payload", PAYLOADS),
    ("search", "limit", [*NEVER, "1", math.inf, 1.0, 0, -1, 201]),
    ("search", "min_score", [*(n for n in NEVER if not isinstance(n, Decimal)), "1", math.inf, 1.5, -2]),
    ("wait_applied", "receipt", [None, "17/1-0", b"", 5, Receipt("x", "1-0"), Receipt(0, "0-0"), Receipt(0, None)]),  # type: ignore[arg-type]
    ("upsert_many", "points", [None, "text", b"x", 5, {"user_id": 1}, {10**5000: 1}, Purge(user_id=1)]),
    ("push_many", "jobs", [None, "text", 5, {10**5000: 1}, {"op": "purge"}, Purge(user_id=1)]),
]  # fmt: skip
CASES = [(method, argument, value) for method, argument, values in WRONG for value in values]
FIELDS = {"points": "upsert_many"}


@pytest.fixture
async def published(redis: Redis, keys: Keys) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))


async def refused(work: Awaitable[Any]) -> InvalidJob:
    async with asyncio.timeout(5):
        with pytest.raises(InvalidJob) as caught:
            await work
    str(caught.value).encode()
    return caught.value


async def outcome(work: Awaitable[Any]) -> str:
    try:
        async with asyncio.timeout(5):
            return f"no error, but {await work}"
    except InvalidJob as error:
        str(error).encode()
        return f"InvalidJob {error.field}"
    except Exception as error:  # noqa: BLE001  # the test shows any other error
        return f"{type(error).__name__} {error}"


async def test_a_wrong_argument_is_refused_by_its_name(
    queue: MemoryQueue, everything: Everything, published: None
) -> None:
    before = await everything()
    for method, argument, value in CASES:
        call = getattr(queue, method.removesuffix("_file") if method == "patch_file" else method)
        error = await outcome(call(**{**GOOD[method], argument: value}))
        expected = f"InvalidJob {FIELDS.get(argument, argument)}"
        assert re.split(r"[\[.]", error)[0] == expected, f"{method}({argument}={excerpt(value)}): {error}"
    assert (await refused(queue.delete(user_id=1))).field == "point_ids"
    assert await everything() == before


async def test_a_wrong_element_is_named_by_its_position(queue: MemoryQueue, published: None) -> None:
    for value in (None, 5, b"x", "mem_2_1", ["mem_1_1"]):
        for method in (queue.delete, queue.get):
            assert (await refused(method(user_id=1, point_ids=["mem_1_1", value]))).field == "point_ids[1]"
    assert (await refused(queue.delete(user_id=1, point_ids=["mem_1_1"], point_id="mem_2_1"))).field == "point_id"
    bad_vector = [0.5] * (DIMENSION - 1) + [math.nan]
    assert (await refused(queue.search(user_id=1, vector=bad_vector))).field == f"vector[{DIMENSION - 1}]"


async def test_a_wrong_chunk_of_a_file_is_named_by_its_position(queue: MemoryQueue, published: None) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"user_id": 2}, "chunks[1].user_id"),
        ({"kind": "memory"}, "chunks[1].kind"),
        ({"payload": {"file_id": 6}}, "chunks[1].payload.file_id"),
        ({"payload": {"_version": 2}}, "chunks[1].payload._version"),
        ({"payload": [1]}, "chunks[1].payload"),
        ({"ref": "own"}, "chunks[1]"),
        ({"point_id": "doc_2_5_1"}, "point_id"),
        ({"vector": None}, "vector"),
        ({"payload": {"chunk_index": "one"}}, "payload.chunk_index"),
    ]
    for change, field in wrong:
        chunks = [FILE_CHUNK, {**FILE_CHUNK, **change}]
        error = await refused(queue.replace_file(user_id=1, file_id=5, version=1, chunks=chunks))
        assert error.field == field, change
    without_vector = {name: value for name, value in FILE_CHUNK.items() if name != "vector"}
    error = await refused(queue.replace_file(user_id=1, file_id=5, version=1, chunks=[without_vector]))
    assert error.field == "chunks[0].vector"
    foreign = Upsert(user_id=2, kind="document", **FILE_CHUNK)
    assert (
        await refused(queue.replace_file(user_id=1, file_id=5, version=1, chunks=[foreign]))
    ).field == "chunks[0].user_id"


async def test_a_patch_has_one_target(queue: MemoryQueue, published: None) -> None:
    change: dict[str, Any] = {"user_id": 1, "set": {"text": "x"}}
    assert (await refused(queue.patch(**change))).field == "point_ids"
    assert (await refused(queue.patch(**change, file_id=5, group_key="g"))).field == "file_id"
    assert (await refused(queue.patch(**change, point_id="mem_1_1", category="a"))).field == "category"
    assert (await refused(queue.patch(**change, file_id=5, kind="memory"))).field == "file_id"
    assert (await refused(queue.patch(user_id=1, point_id="mem_1_1"))).field == "set"


NO_JOBS: list[Any] = [None, 5, "text", {"op": "purge", "user_id": 1}, Info(), RECEIPT, Purge]
NO_JOBS += [Get(user_id=1, point_ids=["mem_1_1"]), Search(user_id=1, vector=axis(0))]


async def test_a_value_that_is_not_a_write_job_is_named_by_its_position(queue: MemoryQueue, published: None) -> None:
    for job in NO_JOBS:
        error = await refused(queue.push_many([Purge(user_id=1), job]))
        assert error.field == "jobs[1]"
        assert "expected an Upsert, Delete, Purge, Patch or Prune" in error.problem
        if not isinstance(job, dict):
            assert (await refused(queue.upsert_many([GOOD["upsert"], job]))).field == "upsert_many[1]"


async def test_a_map_that_is_not_an_upsert_is_refused(queue: MemoryQueue, published: None) -> None:
    unknown = await refused(queue.upsert_many([{**GOOD["upsert"], "id": 5}]))
    assert (unknown.field, unknown.problem) == ("upsert_many[0]", "'id' is no argument of upsert")
    assert (await refused(queue.upsert_many([{"user_id": 1, "point_id": "mem_1_1"}]))).field == "upsert_many[0].vector"


WRONG_JOBS: dict[str, Any] = {
    "user_id": Delete(user_id="1", point_ids=["mem_1_1"]),  # type: ignore[arg-type]
    "point_ids": Delete(user_id=1, point_ids="mem_1_1"),  # type: ignore[arg-type]
    "payload": Upsert(user_id=1, point_id="mem_1_1", vector=axis(0), payload=None),  # type: ignore[arg-type]
    "payload.a.b[3]": Upsert(user_id=1, point_id="mem_1_1", vector=axis(0), payload={"a": {"b": [0, 1, 2, 1j]}}),
    "category": Purge(user_id=1, kind="memory", category=None),  # type: ignore[arg-type]
    "kind": Purge(user_id=1, kind=None),  # type: ignore[arg-type]
}


async def test_a_wrong_field_of_a_job_is_named_with_its_position_and_no_job_is_stored(
    queue: MemoryQueue, published: None, everything: Everything
) -> None:
    before = await everything()
    for field, job in WRONG_JOBS.items():
        assert (await refused(queue.push_many([job]))).field == field
        error = await refused(queue.push_many([Purge(user_id=1), job, Purge(user_id=1)]))
        assert error.field == field
        assert error.problem.endswith("(job 1 of 3, counted from 0)")
    assert await everything() == before


class Kind(StrEnum):
    MEMORY = "memory"


async def test_numpy_values_enums_and_iterators_are_accepted(app: WorkerProcess, queue: MemoryQueue) -> None:
    options: dict[str, Any] = {"user_id": np.int64(1), "kind": Kind.MEMORY}
    vector = np.frombuffer(axis(0), dtype=np.float32)
    forms = [vector.astype(">f8"), vector.astype(np.float16), memoryview(axis(0)), (float(n) for n in vector)]
    receipts = [
        await queue.upsert(**options, point_id=np.str_(f"mem_1_{n}"), vector=form, payload=MappingProxyType({"n": n}))
        for n, form in enumerate(forms)
    ]
    receipts += await queue.upsert_many({**GOOD["upsert"], "point_id": f"mem_1_{n}", "payload": None} for n in (7, 8))
    receipts += await queue.push_many(iter([Delete(user_id=1, point_ids=("mem_1_8",))]))  # type: ignore[arg-type]
    await queue.wait_applied(receipts[-1], timeout=np.float32(5))  # type: ignore[arg-type]
    hits = await queue.search(**options, vector=(float(n) for n in vector), limit=np.int8(9), min_score=np.float32(0.5))  # type: ignore[arg-type]
    assert sorted(hit.point_id for hit in hits) == [f"mem_1_{n}" for n in (0, 1, 2, 3, 7)]
    points = await queue.get(**options, point_ids=(f"mem_1_{n}" for n in (3, 1)), timeout=Decimal(5) and 5)  # type: ignore[arg-type]
    assert [point.payload["n"] for point in points] == [3, 1]


async def test_vectors_with_the_smallest_and_the_largest_norm_are_found(app: WorkerProcess, queue: MemoryQueue) -> None:
    dimensions = [1.0] * DIMENSION
    for n, norm in enumerate((MIN_NORM, 1e-3, 1e9, MAX_NORM)):
        vector = [number * norm / math.sqrt(DIMENSION) * (1 + 1e-6) ** (1 if norm < 1 else -1) for number in dimensions]
        receipt = await queue.upsert(user_id=1, point_id=f"mem_1_{n}", vector=vector)
    await queue.wait_applied(receipt)
    assert len(await queue.search(user_id=1, vector=dimensions, min_score=0.999)) == 4


async def test_a_very_short_timeout_is_accepted(queue: MemoryQueue, published: None) -> None:
    receipt = await queue.delete(**GOOD["delete"])
    for shortest in (1e-9, 0.001, np.float64(0.01)):
        with pytest.raises(NotApplied):
            await queue.wait_applied(receipt, timeout=float(shortest))
