"""The benchmark as a process, at sizes at which its figures mean nothing: what it tells, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_client import grpc as q
from redis import Redis

DIMENSION = 16
SMALL = ("--points", "100", "--users", "20", "--jobs", "1000", "--calls", "20", "--seconds", "0.2")
SMALL += ("--rounds", "1", "--dimension", str(DIMENSION), "--concurrency", "4")
START = """
import os, signal, sys
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))  # what a shell starts in the background ignores Ctrl-C
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
OWN_PATHS = {
    "fill: pushed in bulk and drained",
    *(f"{path}, {callers}" for path in ("push", "search", "get", "delete") for callers in ("one caller", "4 callers")),
    "push, many at a time",
    "drain of single writes, one process",
    "write until searchable, idle",
    "write until searchable, 20% load",
    "write until searchable, 80% load",
    "search straight at the engine",
    "delete until applied",
    "search, one caller, during a full ingest",
    *(f"mixed: {path}" for path in ("search", "get", "write until searchable", "delete until applied")),
}
PEER_PATHS = {
    *(f"direct {path}, {callers}" for path in ("upsert", "query") for callers in ("one caller", "4 callers")),
    "upload_points",
    "one arq job per write, one process",
}
LOAD_PATHS = {"writes meanwhile, 20% load", "writes meanwhile, 80% load"}


@pytest.fixture
def environment(redis_url: str, qdrant_url: str, redis_prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": redis_prefix,
        "COLUMNS": "160",
    }


def bench(*arguments: str, environment: dict[str, str], interrupts: str = "SIG_DFL") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, interrupts, "-m", "memory_worker", "bench", *SMALL, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(*arguments: str, environment: dict[str, str]) -> str:
    process = bench(*arguments, environment=environment)
    try:
        shown, _ = process.communicate(timeout=110)
    finally:
        process.kill()
    assert process.returncode == 0, shown
    return shown


def left_behind(environment: dict[str, str], channel: grpc.Channel) -> list[str]:
    """Return what there is of the benchmarks of this test."""
    own = f"{environment['QUEUE_PREFIX']}-bench-"
    with Redis.from_url(environment["REDIS_URL"]) as redis:
        keys = [key.decode() for key in redis.scan_iter(f"*{own}*", count=1000)]
    collections = q.CollectionsStub(channel).List(q.ListCollectionsRequest()).collections
    return [*keys, *(found.name for found in collections if found.name.startswith(own))]


def check_plausible(line: dict[str, Any]) -> None:
    assert line["rate"]["lowest"] <= line["rate"]["median"] <= line["rate"]["highest"]
    assert line["rate"]["median"] > 0
    assert line["errors"] == 0
    if line["p50_ms"] is not None:
        assert 0 < line["p50_ms"]["median"] <= line["p90_ms"]["median"] <= line["p99_ms"]["median"] < 60_000


def test_every_path_and_every_peer_is_measured_and_nothing_is_left_behind(
    environment: dict[str, str], qdrant_channel: grpc.Channel, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    all_but_network = "push,drain,visible,search,get,delete,mixed,ingest,upsert,upload,arq,query"
    arguments = ("--peers", "--only", all_but_network, "--peer-jobs", "40", "--markdown", "--json", str(figures))
    shown = done(*arguments, environment=environment)
    report = json.loads(figures.read_text())
    lines = {line["path"]: line for line in report["lines"]}
    assert set(lines) == OWN_PATHS | PEER_PATHS | LOAD_PATHS
    for line in lines.values():
        check_plausible(line)
    assert {path for path, line in lines.items() if line["ours_to_it"]} == PEER_PATHS
    assert len(report["compared"]) == 9
    assert {cpu["path"] for cpu in report["cpu"]} == {
        "drain of single writes, one process",
        "one arq job per write, one process",
    }
    check_raw(report["found"])
    assert report["errors"] == []
    assert shown.count("\n| ") > len(lines)
    assert left_behind(environment, qdrant_channel) == []


def check_raw(found: dict[str, Any]) -> None:
    assert found["dimension"] == DIMENSION
    assert found["machine"]["cpu"]
    assert {"arq", "redis", "qdrant-client"} <= found["engines"]["libraries"].keys()
    assert {"worker, ingest", "worker, search"} <= found["memory"].keys()
    assert all(memory["rss_peak_mib"] > 1 for memory in found["memory"].values())
    (one,) = found["rounds"]
    assert one["drain of single writes, one process"]["sent"] == 1000
    assert one["write until searchable, 20% load"]["loop"] == "open"
    assert one["search, 4 callers"]["callers"] == 4


def test_networks_backlogs_open_loops_and_a_delay_for_everything(environment: dict[str, str], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ("--only", "get,network", "--rate", "50", "--delay-ms", "2", "--delays", "1", "--backlog", "300")
    shown = done(*arguments, "--json", str(figures), environment=environment)
    report = json.loads(figures.read_text())
    lines = {line["path"]: line for line in report["lines"]}
    assert lines["get, 50 a second"]["loop"] == "open"
    assert lines["get, one caller"]["p50_ms"]["median"] > 4  # to Redis, and back
    networks = report["found"]["network"]
    assert [*networks] == ["nothing in between", "1"]
    assert networks["1"]["push"]["p50_ms"] > 4 + 2
    (backlog,) = report["found"]["backlogs"]
    assert (backlog["jobs"], backlog["stored"]) == (300, 300)
    assert backlog["memory"]["worker"]["rss_peak_mib"] > 1
    assert "backlogs" in shown
    assert report["errors"] == []


@pytest.mark.parametrize(("number", "interrupts"), [(signal.SIGINT, "SIG_DFL"), (signal.SIGTERM, "SIG_IGN")])
def test_what_is_ended_leaves_nothing_behind(
    environment: dict[str, str],
    qdrant_channel: grpc.Channel,
    number: signal.Signals,
    interrupts: str,
) -> None:
    process = bench("--rounds", "50", environment=environment, interrupts=interrupts)
    try:
        until = time.monotonic() + 30
        while len(left_behind(environment, qdrant_channel)) < 4 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(left_behind(environment, qdrant_channel)) >= 4
        process.send_signal(number)
        shown, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, shown
    assert len(shown.splitlines()) == 1
    assert left_behind(environment, qdrant_channel) == []
