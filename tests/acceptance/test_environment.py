"""Only the settings change what a worker does; a variable of another program has no effect, or a warning is logged."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.commands.library_variables import HIDDEN
from tests.acceptance.conftest import MEMORY_WORKER, VECTOR, StartWorker
from tests.acceptance.processes import WorkerProcess, run_command


class Proxy:
    """A proxy that counts its connections and closes them."""

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
    """Return the variables that libraries would read, with harmful values."""
    values = dict.fromkeys(HIDDEN, "nonsense")
    values |= {name: proxy.url for name in HIDDEN if "proxy" in name.lower()}
    values |= {"ALL_PROXY": "socks5://127.0.0.1:1", "SSLKEYLOGFILE": str(tmp_path / "keys")}
    return values | {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing"),
        "PYTHONSTARTUP": str(tmp_path / "missing.py"),
    }


async def test_variables_of_libraries_change_no_worker_and_no_command(
    environment: dict[str, str], start_worker: StartWorker, queue: MemoryQueue, proxy: Proxy, tmp_path: Path
) -> None:
    start_worker("all", **hostile(proxy, tmp_path))
    receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
    await queue.wait_applied(receipt, timeout=10)
    assert len(await queue.search(user_id=1, vector=VECTOR)) == 1
    assert proxy.connections == 0
    run_command("check", cwd=tmp_path, **{**environment, **hostile(proxy, tmp_path)})
    assert proxy.connections == 0
    assert not (tmp_path / "keys").exists()


def test_files_of_an_app_in_the_working_directory_change_nothing(
    environment: dict[str, str], start_worker: StartWorker, app: Path
) -> None:
    start_worker("all", cwd=app)
    run_command("check", program=[MEMORY_WORKER], cwd=app, **environment)


def test_a_command_warns_of_a_variable_of_another_program(environment: dict[str, str]) -> None:
    done = run_command("status", **environment, REDIS_HOST="redis", LOGLEVEL="debug")
    assert "memory-worker: REDIS_HOST has no effect here; the setting is REDIS_URL\n" in done.stderr
    assert "LOG_LEVEL" in done.stderr


def test_a_worker_warns_of_a_variable_of_another_program(start_worker: StartWorker) -> None:
    worker = start_worker("ingest", REDIS_PORT="tcp://172.17.0.2:6379")
    assert [line for line in worker.lines if "warning unknown_variable name=REDIS_PORT setting=REDIS_URL" in line]


@pytest.mark.parametrize("missing", ["REDIS_URL", "QDRANT_URL"])
def test_a_worker_warns_of_an_embedded_engine_next_to_an_external_server(
    missing: str, environment: dict[str, str], tmp_path: Path
) -> None:
    given = {name: value for name, value in environment.items() if name != missing}
    worker = WorkerProcess("all", {**given, "DATA_DIR": str(tmp_path / "data")})
    try:
        worker.wait_for("started")
        assert [line for line in worker.lines if "warning embedded_engine" in line and f"{missing} is not set" in line]
    finally:
        worker.close()
