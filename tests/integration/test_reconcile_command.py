"""``memory-worker reconcile``, as a process beside a live worker and a live producer, or in this process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.queue.partitions import publish_meta
from memory_worker.store.operations import CollectionRef, DeletePoints, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.commands import invoked
from tests.integration.conftest import API_KEY, Contents, MakeSettings, running
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS, axis, memory

MEMORIES = CollectionRef("memory")
POINTS = int(os.environ.get("TEST_RECONCILE_POINTS", "3000"))
"""Points in the test beside a live producer."""
VECTOR = [1.0, *[0.0] * (DIMENSION - 1)]


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str
    peak_kb: int

    @property
    def findings(self) -> dict[str, str]:
        found = [json.loads(line) for line in self.stdout.splitlines()]
        assert all(set(one) == {"point_id", "finding", "expected", "found"} for one in found)
        return {one["point_id"]: one["finding"] for one in found}


Manifest = str | list[dict[str, Any]]
Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def environment(
    redis_url: str, qdrant_url: str, shape: CollectionShape, redis_prefix: str, tmp_path: Path
) -> dict[str, str]:
    return {
        "COLUMNS": "160",
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        **({"QDRANT_API_KEY": API_KEY} if API_KEY else {}),
        "QDRANT_MEMORIES_COLLECTION": shape.base("memory"),
        "QDRANT_DOCUMENTS_COLLECTION": shape.base("document"),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        "QUEUE_PREFIX": redis_prefix,
        "QUEUE_PARTITIONS": str(PARTITIONS),
        "DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run the command as a process with a manifest, which is made once the queue is watched."""

    async def command(manifest: Manifest | Callable[[], Manifest] | None, *arguments: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "memory_worker", "reconcile", "--kind", "memory", *arguments),
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stderr = b""
        assert process.stderr is not None
        while (
            manifest is not None and b"watching the queue" not in stderr and (more := await process.stderr.readline())
        ):
            stderr += more
        found = manifest() if callable(manifest) else manifest
        text = found if isinstance(found, str) else "".join(json.dumps(one) + "\n" for one in found or ())
        peak = asyncio.create_task(peak_memory(process.pid))
        stdout, rest = await asyncio.wait_for(process.communicate(text.encode()), 100 + POINTS / 500)
        assert process.returncode is not None
        return Done(process.returncode, stdout.decode(), (stderr + rest).decode(), await peak)

    return command


@pytest.fixture
def run_inside(environment: dict[str, str]) -> Run:
    """Run the command in this process with a manifest."""

    async def command(manifest: str | list[dict[str, Any]], *arguments: str) -> Done:
        text = manifest if isinstance(manifest, str) else "".join(json.dumps(one) + "\n" for one in manifest)
        words = ("reconcile", "--kind", "memory", *arguments)
        done = await asyncio.to_thread(invoked, *words, given=text, **environment)
        return Done(done.exit_code, done.stdout, done.stderr, 0)

    return command


async def peak_memory(pid: int) -> int:
    """Return the peak memory of a process in kB, as far as it was seen, once the process has ended."""
    peak = 0
    while found := re.search(r"VmHWM:\s+(\d+)", status_of(pid)):
        peak = int(found[1])
        await asyncio.sleep(0.05)
    return peak


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"point_id": f"mem_1_{number}", **more}


async def write(store: VectorStore, *numbers: int) -> None:
    points = tuple(memory(1, number, updated=number) for number in numbers)
    await store.apply(MEMORIES, [UpsertPoints(points)], timeout_s=10)


async def test_the_status_says_whether_there_are_differences(
    run: Run, run_inside: Run, store: VectorStore, tmp_path: Path
) -> None:
    await write(store, 1, 2)
    done = await run_inside([line(1, updated=1), line(2, updated=2)])
    assert (done.status, done.stdout.count("0 missing, 0 orphaned, 0 stale")) == (0, 1)
    done = await run([line(1, updated=9), line(3)], "--json", "--output", str(tmp_path / "found.jsonl"))
    assert done.status == 1
    assert "1 missing, 1 orphaned, 1 stale" in done.stdout  # the findings are in the file
    found = [json.loads(text) for text in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert sorted(found, key=lambda one: str(one["point_id"])) == [
        {"point_id": "mem_1_1", "finding": "stale", "expected": 9, "found": 1},
        {"point_id": "mem_1_2", "finding": "orphaned", "expected": None, "found": 2},
        {"point_id": "mem_1_3", "finding": "missing", "expected": None, "found": None},
    ]


@pytest.mark.parametrize(
    ("manifest", "arguments", "message"),
    [
        ('{"point_id": "mem_1_1"}\n{"point_id": 5}\n', ["--delete-orphans"], "line 2 of the manifest"),
        ("", ["--delete-orphans"], "the manifest is empty; nothing was deleted"),
        ("", ["--namespace", "No"], "--namespace: 'No'"),
        ("", ["--kind", "recipe"], "--kind recipe: the kinds are memory, document"),
    ],
)
async def test_errors_end_with_2(
    run_inside: Run, store: VectorStore, manifest: str, arguments: list[str], message: str
) -> None:
    await write(store, 1)
    done = await run_inside(manifest, *arguments)
    assert done.status == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_program_may_print_the_manifest(run: Run, store: VectorStore) -> None:
    await write(store, 1, 2)
    prints = 'import sys; print(\'{"point_id": "mem_1_1"}\'); sys.exit(int(sys.argv[1]))'
    done = await run(None, "--json", "--delete-orphans", "--", sys.executable, "-c", prints, "0")
    assert (done.status, done.findings) == (1, {"mem_1_2": "orphaned"})
    done = await run(None, "--delete-orphans", "--", sys.executable, "-c", prints, "3")
    assert done.status == 2
    assert "the manifest is incomplete" in done.stderr
    done = await run(None, "--", "no-such-program")
    assert done.status == 2
    assert "no-such-program" in done.stderr


async def test_a_report_needs_no_place_for_its_state(run_inside: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = await run_inside([line(1)], "--state", str(tmp_path / "file" / "state"))
    assert done.status == 1
    assert "This run is not remembered" in done.stderr


async def test_orphans_are_deleted_in_the_second_run_unless_the_manifest_is_smaller(
    run_inside: Run,
    store: VectorStore,
    settings: MakeSettings,
    queue: MemoryQueue,
    engine: Contents,
    shape: CollectionShape,
) -> None:
    await write(store, *range(20))
    whole, most, few = ([line(number) for number in range(count)] for count in (18, 17, 12))
    async with running(settings()):
        done = await run_inside(whole, "--delete-orphans")
        assert "deletes of 0 orphans were pushed" in done.stderr
        assert "2 orphans are remembered" in done.stderr
        done = await run_inside(few, "--delete-orphans")
        assert done.status == 2
        assert "the manifest has 12 points, a fifth less than the last one (18)" in done.stderr
        done = await run_inside(few)  # which is not remembered, either
        assert "this run is not remembered" in done.stderr
        done = await run_inside(most, "--delete-orphans")
        assert "deletes of 2 orphans were pushed" in done.stderr
        await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_99"), timeout=20)
        assert len(engine.points(shape.base("memory"))) == 18
        done = await run_inside(few, "--delete-orphans", "--accept-smaller")
        assert "deletes of 1 orphans were pushed" in done.stderr
        done = await run_inside(few, "--delete-orphans")
        assert "deletes of 5 orphans were pushed" in done.stderr
        await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_99"), timeout=20)
    assert engine.points(shape.base("memory")) == {f"mem_1_{number}" for number in range(12)}


class Drift(NamedTuple):
    """The manifest, and the findings that it must lead to."""

    manifest: list[dict[str, Any]]
    findings: dict[str, str]


async def seed(store: VectorStore, engine: Contents, name: str, choose: random.Random) -> Drift:
    """Store points that differ from a manifest in a few percent of all points."""
    numbers = range(POINTS)
    for first in range(0, POINTS, 1000):
        points = tuple(memory(number % 50 + 1, number, updated=1000) for number in numbers[first : first + 1000])
        await store.apply(MEMORIES, [UpsertPoints(points)], timeout_s=60)
    drifted = choose.sample(numbers, POINTS // 20)
    kinds = {number: choose.choice(["missing", "orphaned", "stale", "older", "older orphan"]) for number in drifted}
    ids = {number: f"mem_{number % 50 + 1}_{number}" for number in numbers}
    gone = [ids[number] for number, kind in kinds.items() if kind in ("missing", "older", "older orphan")]
    await store.apply(MEMORIES, [DeletePoints(tuple(gone))], timeout_s=60)
    manifest, findings = [], {}
    for number in numbers:
        kind = kinds.get(number)
        if kind in ("older", "older orphan"):
            engine.insert(name, number, VECTOR, user_id=number % 50 + 1, _point_id=ids[number], updated=1000)
        if kind not in ("orphaned", "older orphan"):
            manifest.append({"point_id": ids[number], "updated": 1001 if kind == "stale" else 1000})
        if kind not in (None, "older"):
            findings[ids[number]] = "orphaned" if kind == "older orphan" else kind
    return Drift(manifest, findings)


async def produce(
    queue: MemoryQueue, database: dict[str, int], same: list[str], choose: random.Random, stopped: asyncio.Event
) -> int:
    """Write new points, and overwrite and delete those in ``same``, until the event is set.

    Each change is made in the database of the app first, then it is pushed.
    """
    count = 0
    while not stopped.is_set():
        for point_id in choose.sample(same, 10):
            user_id = int(point_id.split("_")[1])
            if choose.random() < 0.5:
                database.pop(point_id, None)
                await queue.delete(user_id=user_id, point_id=point_id)
            else:
                database[point_id] = 2000 + count
                payload = {"updated": database[point_id]}
                await queue.upsert(user_id=user_id, point_id=point_id, vector=axis(1), payload=payload)
            user_id = choose.randrange(1, 60)
            database[f"mem_{user_id}_new{count}"] = 5
            await queue.upsert(
                user_id=user_id, point_id=f"mem_{user_id}_new{count}", vector=axis(1), payload={"updated": 5}
            )
            count += 1
        await asyncio.sleep(0.01)
    return count


async def test_the_seeded_differences_are_found_beside_a_live_producer(
    run: Run, store: VectorStore, settings: MakeSettings, queue: MemoryQueue, engine: Contents, shape: CollectionShape,
    redis: Redis, keys: Keys,
) -> None:  # fmt: skip
    number = random.randrange(10**6)
    print(f"seed {number}")
    choose, stopped = random.Random(number), asyncio.Event()
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
    engine.create(shape.base("memory"))  # so that it may have integer ids
    drift = await seed(store, engine, shape.base("memory"), choose)
    waiting = [point_id for point_id, kind in drift.findings.items() if kind == "orphaned"][:5]
    quiet = await run(drift.manifest, "--json")
    assert quiet.findings == drift.findings
    for point_id in waiting:  # no worker runs yet
        await queue.delete(user_id=int(point_id.split("_")[1]), point_id=point_id)
    expected = {point_id: kind for point_id, kind in drift.findings.items() if point_id not in waiting}
    assert (await run(drift.manifest, "--json")).findings == expected
    database = {one["point_id"]: one["updated"] for one in drift.manifest}
    same = [point_id for point_id in database if point_id not in drift.findings]
    async with running(settings()):
        await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_x"), timeout=60)
        producing = asyncio.create_task(produce(queue, database, same, choose, stopped))
        live = await run(lambda: [{"point_id": one, "updated": at} for one, at in database.items()], "--json")
        stopped.set()
        assert await producing > 10
    print(live.stderr, f"peak memory of the command: {live.peak_kb:,} kB")
    assert live.status == 1
    assert live.findings.items() <= expected.items()  # nothing that the producer has changed
    assert live.findings == expected
