"""Processes of the benchmark: what they say, what goes wrong in them, and what they are told."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory_worker.bench.load import Terms
from memory_worker.bench.place import own_names
from memory_worker.bench.processes import Processes, environment, together, trouble_in
from memory_worker.bench.tasks import Task
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.settings import Settings, load_settings
from memory_worker.telemetry.logs import _TextFormatter

NOWHERE = {"redis_url": "redis://127.0.0.1:1", "qdrant_url": "http://127.0.0.1:1"}
PARENT = """
import subprocess, sys
command = [sys.executable, "-u", "-m", "memory_worker.bench.leashed", "http.server", "0", "--bind", "127.0.0.1"]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
print(child.pid, flush=True)
print(child.stdout.readline(), flush=True)
child.wait()
"""
TERMS = Terms(seed=1, users=2, dimension=4, stock=8)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(**NOWHERE, data_dir=tmp_path, queue_prefix="bench-test")


@pytest.mark.parametrize(
    ("level", "trouble"),
    [(logging.INFO, None), (logging.WARNING, "outage"), (logging.ERROR, "outage"), (logging.CRITICAL, "outage")],
)
def test_what_a_worker_warns_of_is_trouble(level: int, trouble: str | None) -> None:
    record = logging.LogRecord("worker", level, __file__, 1, "outage", None, None)
    assert trouble_in(_TextFormatter().format(record)) == trouble


def test_a_process_gets_the_settings_secrets_in_the_clear(settings: Settings) -> None:
    assert environment(settings)["REDIS_URL"] == NOWHERE["redis_url"]
    assert environment(settings)["QUEUE_PREFIX"] == "bench-test"


async def test_a_caller_tells_what_its_calls_end_with(settings: Settings) -> None:
    async with Processes().caller(settings, "own", TERMS) as caller:
        pushed, unknown = await caller.run(Task(path="push", count=2), Task(path="pull", count=1))
    ((error, count),) = pushed.errors.items()
    assert error.startswith("QueueUnavailable")
    assert (count, pushed.calls, pushed.sent) == (2, 0, 2)
    assert [*unknown.errors] == ["KeyError: 'pull'"]


async def test_a_process_that_does_not_start_says_why(settings: Settings) -> None:
    processes = Processes()
    with pytest.raises(MemoryWorkerError, match=r"No module named memory_worker\.bench\.nothing"):
        async with together(
            processes.module(settings, "memory_worker.bench.nothing"),
            processes.module(settings, "memory_worker.bench.delay", "0"),
        ):
            raise AssertionError


def test_what_is_leashed_ends_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    try:
        child = int(parent.stdout.readline())
        parent.stdout.readline()  # the child serves
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("prefix", ["mw", "a.b", "x" * 64])
def test_names_of_its_own_are_named_after_the_deployment(prefix: str) -> None:
    names = own_names(prefix)
    settings = load_settings(**NOWHERE, **names)
    assert settings.queue_prefix.startswith(f"{prefix[:48]}-bench-")
    assert own_names(prefix)["queue_prefix"] != settings.queue_prefix
