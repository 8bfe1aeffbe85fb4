"""Processes of the benchmark: what they are given, what goes wrong in them, and what they use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory_worker.bench.loops import Task
from memory_worker.bench.processes import Process, cpu_s, memory_mib, serving
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.settings import Settings, child_environment, load_settings

NOWHERE = {"redis_url": "redis://127.0.0.1:1", "qdrant_url": "http://127.0.0.1:1"}
NO_PROCESS = 2**22 + 1
CALLER = ("memory_worker.bench.calls", "1", "2", "8")
OWNER = """
import asyncio, os, signal
from memory_worker.bench.processes import Process
from memory_worker.settings import load_settings
process = Process("", load_settings(), "memory_worker.bench.delay", "0", "127.0.0.1:1")
asyncio.run(process.ready())
os.write(1, b"%d" % process.pid)
os.kill(os.getpid(), signal.SIGKILL)
"""
WARNS = """
import logging, sys, time
from memory_worker.telemetry.logs import configure_logs, log_event
configure_logs("INFO", as_json=False)
for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.WARNING):
    log_event(logging.getLogger(), level, f"event_{level}")
sys.stderr.write("ready\\n")
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(**NOWHERE, data_dir=tmp_path, queue_prefix="bench-test", qdrant_vector_dimension=4)


def test_a_process_gets_the_settings_and_none_of_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE_PREFIX", "another")
    monkeypatch.setenv("WORKER_CONCURRENCY", "7")
    monkeypatch.setenv("LANG", "C")
    given = child_environment(settings)
    assert (given["REDIS_URL"], given["QUEUE_PREFIX"]) == (NOWHERE["redis_url"], "bench-test")
    assert given["LANG"] == "C"
    assert "WORKER_CONCURRENCY" not in given


async def test_a_caller_reports_how_its_calls_ended(settings: Settings) -> None:
    caller = Process("caller", settings, *CALLER, leash="")
    try:
        await caller.ready()
        figure = await caller.carry_out(Task(path="push", count=2))
        with pytest.raises(MemoryWorkerError, match="KeyError: 'pull'"):
            await caller.carry_out(Task(path="pull", count=1))
    finally:
        await caller.end()
    ((error, count),) = figure.errors.items()
    assert error.startswith("QueueUnavailable")
    assert (count, figure.calls, figure.sent) == (2, 0, 2)


async def test_a_process_that_does_not_start_says_why(settings: Settings) -> None:
    process = Process("", settings, "memory_worker.bench.nothing")
    with pytest.raises(MemoryWorkerError, match=r"No module named memory_worker\.bench\.nothing"):
        await process.ready()
    await process.end()


async def test_warnings_and_errors_in_a_log_are_troubles(settings: Settings, tmp_path: Path) -> None:
    process = Process("", settings, "timeit", "-n1", "-r1", WARNS)
    await process.ready()
    await process.end()
    assert process.troubles == ["event_30", "event_40", "event_30"]
    assert process.peak_mib >= 0


def test_no_process_outlives_its_owner_even_if_that_is_killed(settings: Settings) -> None:
    command, given = [sys.executable, "-c", OWNER], child_environment(settings)
    owner = subprocess.run(command, check=False, env=given, stdout=subprocess.PIPE, timeout=60)
    assert owner.returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while Path(f"/proc/{int(owner.stdout)}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{int(owner.stdout)}").exists()


def test_what_a_process_uses_is_known_if_it_is_there() -> None:
    assert cpu_s(os.getpid()) > 0
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=1)
    assert memory_mib(os.getpid(), peak=True) >= memory_mib(os.getpid()) > 1
    assert (cpu_s(NO_PROCESS), memory_mib(NO_PROCESS)) == (0, 0)


def test_the_process_that_serves_a_url_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert serving(f"redis://user:secret@127.0.0.1:{port}/0") == os.getpid()
        assert serving(f"http://localhost:{port}") == os.getpid()
        assert serving(f"http://192.0.2.1:{port}") is None
    assert serving(f"http://127.0.0.1:{port}") is None
    assert serving("unix:///run/redis.sock") is None
    assert serving("") is None
