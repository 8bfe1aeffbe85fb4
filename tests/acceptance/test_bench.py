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
SMALL += ("--rounds", "1", "--dimension", str(DIMENSION), "--concurrency", "4", "--rates", "50")
START = """
import os, signal, sys
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))  # what a shell starts in the background ignores Ctrl-C
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
CALLERS = ("one caller", "4 callers")
BESIDE = ("no reads", "search during a full ingest", "direct query during a full ingest")
OWN_PATHS = {
    *(f"{path}, {callers}" for path in ("push", "search", "get", "delete until applied") for callers in CALLERS),
    "push, many in one call",
    "drain of single writes",
    "write until searchable, idle",
    "write until searchable, 4 callers",
    "write until searchable, 20% load",
    "pushes of the 20% load",
    "search during a full ingest",
    *(f"drain beside: {reads}" for reads in BESIDE[:2]),
}
PEER_PATHS = {
    *(f"direct {path}, {callers}" for path in ("upsert", "query", "retrieve", "delete") for callers in CALLERS),
    "upload_points",
    "one arq job per write",
    "write until applied, 50/s open loop",
    "direct upsert, 50/s open loop",
    "direct query during a full ingest",
    f"drain beside: {BESIDE[2]}",
}


@pytest.fixture
def environment(redis_url: str, qdrant_url: str, redis_prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": redis_prefix,
        "COLUMNS": "80",
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


def check_plausible(figure: dict[str, Any]) -> None:
    assert "errors" not in figure
    if latencies := figure.get("ms"):
        assert 0 < latencies["p50"] <= latencies["p90"] <= latencies["p99"] <= latencies["max"]


def test_every_path_and_every_peer_is_measured_and_nothing_is_left_behind(
    environment: dict[str, str], qdrant_channel: grpc.Channel, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    shown = done("--peers", "--rounds", "2", "--json", str(file), environment=environment)
    found = json.loads(file.read_text())
    assert len(found["rounds"]) == 2
    for one in found["rounds"]:
        assert set(one) == OWN_PATHS | PEER_PATHS
        assert one["drain of single writes"]["sent"] >= 1000
        for name, figure in one.items():
            assert figure["rate"] > 0 or name.startswith("drain beside")  # its turns are short here
            check_plausible(figure)
    first, second = found["rounds"]
    assert [*first].index("push, one caller") < [*first].index("direct upsert, one caller")
    assert [*second].index("push, one caller") > [*second].index("direct upsert, one caller")
    assert all(first["search, 4 callers"]["cpu_us"][part] > 0 for part in ("caller", "worker", "Redis", "Qdrant"))
    assert {"worker, ingest", "worker, search", "worker, arq", "caller"} <= found["peak_mib"].keys()
    assert all(found["rest_mib"][f"worker, {role}"] > 10 for role in ("ingest", "search", "all"))
    assert found["problems"] == []
    assert all(title in shown for title in ("used instead", "equal load", "beside a full ingest", "the guide"))
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert left_behind(environment, qdrant_channel) == []


def test_the_steps_of_a_write_and_processes_without_a_store_over_a_network_that_is_farther_away(
    environment: dict[str, str], qdrant_channel: grpc.Channel, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    phases = ("--only", "timeline", "--only", "no-store", "--ingest-processes", "2", "--store-delay-ms", "1")
    shown = done(*phases, "--only", "get", "--delay-ms", "2", "--json", str(file), environment=environment)
    (found,) = json.loads(file.read_text())["rounds"]
    reads = {"get, one caller", "get, 4 callers"}
    drains = {"drain without a store", "drain without a store, 2 processes"}
    taken = {name.removeprefix("step of a write: "): found[name]["ms"] for name in found.keys() - drains - reads}
    assert {"push, wake and claim", "Qdrant: update_batch", "Redis: commit", "reply to the caller"} < taken.keys()
    # The delays are 4 ms, there and back. A busy proxy may delay only half as long, because it subtracts its own work.
    assert taken["all"]["p50"] > taken["Qdrant: update_batch"]["p50"] > 2
    assert all(found[name]["ms"]["p50"] > 4 for name in reads)
    for name in drains:
        assert found[name]["sent"] >= 1000
        assert "stand-in" in found[name]["cpu_us"]
    assert "ingest processes: writes per second" in shown
    assert "a hop with the delay of 2 ms took" in shown
    assert left_behind(environment, qdrant_channel) == []


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
