"""The commands as an operator runs them: each as a process, and again in the process of the tests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, encode_job, partition_of
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION, PARTITIONS, VECTOR, StartWorker
from tests.acceptance.processes import WorkerProcess, run_command
from tests.commands import run_here
from tests.servers import free_port


def _run(*arguments: str, **options: Any) -> str:
    """Return what a command prints, with its errors if it fails."""
    done = run_command(*arguments, **options)
    return done.stdout if done.returncode == 0 or "--json" in arguments else done.stdout + done.stderr


async def _run_here(*arguments: str, **options: Any) -> str:
    return await asyncio.to_thread(run_here, *arguments, **options)


def test_a_wrong_setting_ends_with_2() -> None:
    assert "BATCH_MAX_JOBS" in _run("run", status=2, BATCH_MAX_JOBS="0")
    assert "did you mean QUEUE_PARTITIONS" in run_here("run", status=2, QUEUE_PARTITION="8")


def test_an_unreachable_server_ends_with_1() -> None:
    output = _run("run", status=1, REDIS_URL="redis://127.0.0.1:1", QDRANT_URL="http://127.0.0.1:1")
    assert "Redis" in output
    assert "Traceback" not in output


def test_check_reports_wrong_settings(environment: dict[str, str], start_worker: StartWorker) -> None:
    start_worker("all")
    assert "failed" not in _run("check", **environment)
    checks = {check["name"]: check for check in json.loads(run_here("check", "--json", **environment))}
    assert checks["partitions"]["verdict"] == "ok"
    memories = f"collection {environment['QDRANT_MEMORIES_COLLECTION']}"
    assert checks[memories]["seen"] == "0 points, all payload indexes"
    wrong = {**environment, "QDRANT_VECTOR_DIMENSION": "8", "QUEUE_PARTITIONS": "4"}
    checks = {check["name"]: check for check in json.loads(_run("check", "--json", status=1, **wrong))}
    assert checks["partitions"]["verdict"] == "failed"
    assert checks[memories]["verdict"] == "failed"
    assert "dimension 16" in checks[memories]["seen"]


def test_commands_print_their_servers(environment: dict[str, str]) -> None:
    secret = {**environment, "REDIS_URL": environment["REDIS_URL"].replace("://", "://:not-shown@")}
    for command in ("status", "check"):
        first, second, *_ = run_here(command, **environment).splitlines()
        assert first == f"Redis: {environment['REDIS_URL']}, queue {environment['QUEUE_PREFIX']}"
        assert second == f"Qdrant: {environment['QDRANT_URL']}"
    assert _run("dead", "list", **environment).splitlines()[:2] == [first, second]
    assert "not-shown" not in run_here("status", status=1, **secret)


def test_status_ends_with_1_when_a_server_is_down(environment: dict[str, str]) -> None:
    away = "http://127.0.0.1:1"
    output = run_here("status", status=1, **{**environment, "QDRANT_URL": away})
    assert "Qdrant does not answer" in output
    assert "jobs wait" in output
    assert json.loads(_run("status", "--json", status=1, **{**environment, "QDRANT_URL": away}))["store_error"]
    assert "Redis" in run_here("status", status=1, **{**environment, "REDIS_URL": "redis://127.0.0.1:1"})


async def test_status_and_check_show_running_workers_and_waiting_jobs(
    environment: dict[str, str], start_worker: StartWorker, redis: Redis, keys: Keys
) -> None:
    search = start_worker("search")
    partition, job = partition_of(7, PARTITIONS), encode_job(Delete(user_id=7, point_ids=["mem_7_1"]))
    await push(redis, keys, PARTITIONS, [(partition, job), (partition, job)])
    shown = _run("status", **environment)
    assert "workers: 0 ingest, 1 search, 0 all" in shown
    assert "2 jobs wait" in shown
    checks = {check["name"]: check for check in json.loads(await _run_here("check", "--json", **environment))}
    assert checks["workers"]["verdict"] == "warning"
    assert "1 search; 2 writes wait" in checks["workers"]["seen"]
    assert search.terminate() == 0
    status = json.loads(await _run_here("status", "--json", **environment))
    assert status["workers"] == {"ingest": 0, "search": 0, "all": 0}
    assert [part["partition"] for part in status["partitions"] if part["waiting"]] == [partition]
    assert status["oldest_age_s"] > 0
    assert "workers: none" in await _run_here("status", **environment)


def test_commands_work_on_an_ascii_terminal(environment: dict[str, str]) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "80"}
    assert _run("check", **environment, **plain).isascii()


async def test_dead_letters_are_listed_shown_replayed_and_dropped(
    environment: dict[str, str], start_worker: StartWorker, redis: Redis, keys: Keys
) -> None:
    partitions = [partition_of(user, PARTITIONS) for user in (7, 8)]
    worker = start_worker("ingest")
    foreign = [encode_job(Delete(user_id=user, point_ids=["mem_1_1"])) for user in (7, 8)]
    receipts = await push(redis, keys, PARTITIONS, list(zip(partitions, foreign, strict=True)))
    for _ in receipts:
        worker.wait_for("dead_letter")
    dead_letters = [json.loads(line) for line in _run("dead", "list", "--json", **environment).splitlines()]
    assert {dead_letter["receipt"] for dead_letter in dead_letters} == {str(receipt) for receipt in receipts}
    assert {dead_letter["reason"] for dead_letter in dead_letters} == {"invalid"}
    assert (await _run_here("dead", "list", "--user", "8", **environment)).count("does not belong to user 8") == 1

    shown = json.loads(await _run_here("dead", "show", str(receipts[0]), **environment))
    assert shown["job"]["point_ids"] == ["mem_1_1"]
    assert "there is no dead letter" in await _run_here("dead", "show", "0/1-1", status=1, **environment)
    assert "name receipts" in await _run_here("dead", "drop", "--yes", status=2, **environment)

    output = _run("dead", "replay", str(receipts[0]), "--yes", **environment)
    assert output.splitlines()[2:] == ["1 dead letter: 1 invalid delete", "1 replayed"]
    worker.wait_for("dead_letter")
    output = await _run_here("dead", "drop", "--all", "--yes", **environment)
    assert output.splitlines()[2:] == ["2 dead letters: 2 invalid delete", "2 dropped"]
    assert "no dead letters" in await _run_here("dead", "list", **environment)


async def test_embedded_engines_are_shared_and_keep_their_data(tmp_path: Path) -> None:
    port = str(free_port())
    environment = {
        "BIND_HOST": "",
        "DATA_DIR": str(tmp_path),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        "EMBEDDED_REDIS_PORT": port,
    }
    first = WorkerProcess("ingest", environment)
    assert f"url=redis://127.0.0.1:{port}" in first.wait_for("embedded_engine")
    assert " host=127.0.0.1 " in first.wait_for("http")
    first.wait_for("started")
    second = WorkerProcess("search", environment)
    second.wait_for("started")
    async with MemoryQueue.connect(f"redis://127.0.0.1:{port}") as queue:
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR, payload={"value": "kept"})
        await queue.wait_applied(receipt, timeout=10)
        assert [hit.point_id for hit in await queue.search(user_id=1, vector=VECTOR)] == ["mem_1_1"]
    assert second.terminate() == 0
    assert first.terminate() == 0
    status = json.loads(_run("status", "--json", **environment))
    assert {info["name"]: info["points"] for info in status["collections"]} == {
        "user_memories": 1,
        "user_documents": 0,
    }
    first.close()
    second.close()


async def test_sigterm_finishes_what_is_in_flight_and_releases_the_leases(
    queue: MemoryQueue, redis: Redis, keys: Keys, start_worker: StartWorker
) -> None:
    worker = start_worker("ingest", BATCH_MAX_JOBS="1", LOG_LEVEL="DEBUG")
    users = range(1, 40)
    points = [{"user_id": user, "point_id": f"mem_{user}_{n}", "vector": VECTOR} for user in users for n in range(20)]
    await queue.upsert_many(points)
    worker.wait_for("batch_applied")
    assert worker.terminate() == 0
    assert await redis.exists(*map(keys.lease, range(PARTITIONS))) == 0
    assert await redis.hget(keys.backlog, "jobs") is not None
