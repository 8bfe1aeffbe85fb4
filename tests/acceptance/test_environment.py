"""What the environment may change is what the settings name; all else has no effect, or is said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.commands.library_variables import HIDDEN
from tests.acceptance.conftest import DIMENSION, MEMORY_WORKER
from tests.acceptance.processes import WorkerProcess

VECTOR = [1.0, *[0.0] * (DIMENSION - 1)]


class Proxy:
    """Counts the connections to it, and ends them."""

    def __init__(self) -> None:
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                if connection.recv(3) == b"end":
                    return
                self.connections += 1

    def close(self) -> None:
        with socket.create_connection(self._server.getsockname()) as connection:
            connection.sendall(b"end")
        self._thread.join(10)
        self._server.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


def hostile(proxy: Proxy, tmp_path: Path) -> dict[str, str]:
    """Return all that libraries would read, with the worst values."""
    values = dict.fromkeys(HIDDEN, "nonsense")
    values |= {name: proxy.url for name in HIDDEN if "proxy" in name.lower()}
    values |= {"ALL_PROXY": "socks5://127.0.0.1:1", "SSLKEYLOGFILE": str(tmp_path / "keys")}
    return values | {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing"),
        "PYTHONSTARTUP": str(tmp_path / "missing.py"),
    }


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory_worker", *arguments],
        env={**os.environ, "COLUMNS": "200", "PORT": "0", "BIND_HOST": "127.0.0.1", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


async def test_a_worker_is_not_moved_by_any_of_them(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], proxy: Proxy, tmp_path: Path
) -> None:
    start_worker("all", **hostile(proxy, tmp_path))
    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
        await queue.wait_applied(receipt, timeout=10)
        assert len(await queue.search(user_id=1, vector=VECTOR)) == 1
    assert proxy.connections == 0
    assert not (tmp_path / "keys").exists()


def test_the_demo_and_the_check_are_not_moved_by_any_of_them(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], proxy: Proxy, tmp_path: Path
) -> None:
    start_worker("all")
    for command in ("demo", "check"):
        done = run(command, cwd=tmp_path, **{**environment, **hostile(proxy, tmp_path)})
        assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.connections == 0


@pytest.mark.parametrize("command", ["check", "demo"])
def test_an_apps_own_files_in_the_working_directory_change_nothing(
    command: str, environment: dict[str, str], start_worker: Callable[..., WorkerProcess], app: Path
) -> None:
    start_worker("all", cwd=app)
    done = subprocess.run(
        [MEMORY_WORKER, command],
        env=environment,
        cwd=app,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_variable_of_another_program_is_named_on_standard_error(environment: dict[str, str], tmp_path: Path) -> None:
    done = run("status", cwd=tmp_path, **environment, REDIS_HOST="redis", LOGLEVEL="debug")
    assert done.returncode == 0
    assert "memory-worker: REDIS_HOST has no effect here; the setting is REDIS_URL\n" in done.stderr
    assert "LOG_LEVEL" in done.stderr


def test_a_variable_of_another_program_is_a_warning_of_a_worker(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("ingest", REDIS_PORT="tcp://172.17.0.2:6379")
    assert [line for line in worker.lines if "warning unknown_variable name=REDIS_PORT setting=REDIS_URL" in line]


@pytest.mark.parametrize("missing", ["REDIS_URL", "QDRANT_URL"])
def test_an_embedded_engine_beside_a_server_elsewhere_is_a_warning(
    missing: str, environment: dict[str, str], tmp_path: Path
) -> None:
    given = {name: value for name, value in environment.items() if name != missing}
    worker = WorkerProcess("all", {**given, "DATA_DIR": str(tmp_path / "data")})
    try:
        worker.wait_for("started")
        assert [line for line in worker.lines if "warning embedded_engine" in line and f"{missing} is not set" in line]
    finally:
        worker.close()
