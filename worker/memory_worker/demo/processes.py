"""The processes of the demo: Redis, Qdrant and a worker. All of them end with the demo, even if that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from memory_worker.client.blocking import SyncMemoryQueue
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.demo.dataset import DIMENSION
from memory_worker.embedded.engines import Engine, start_edge, start_valkey
from memory_worker.embedded.interpreter import ENDS_WITH_OWNER, python_command
from memory_worker.settings import Settings, child_environment

SETTINGS: dict[str, Any] = {
    **{name: field.default for name, field in Settings.model_fields.items()},
    "qdrant_vector_dimension": DIMENSION,
    "port": 0,
    "bind_host": "127.0.0.1",
    # Small batches, so that the worker can be killed between two of them, and short waits, so that the demo is short.
    "batch_max_jobs": 8,
    "lease_ttl_s": 3.5,
    "qdrant_timeout_s": 1.5,
    "rescue_interval_s": 0.2,
    "retry_max_s": 0.25,
}
"""The settings of the demo. The environment changes none of them, so the demo uses no server that is named there."""

_TIMEOUT_S, _POLL_S, _LOG_LINES = 30.0, 0.02, 10


class Worker:
    """``memory-worker run`` as a child process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603  # the command is ours
                python_command("memory_worker", ["run"], first=ENDS_WITH_OWNER),
                env=child_environment(settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,  # Ctrl-C in a terminal is for the demo, which ends its children
            )

    def wait_until_ready(self) -> None:
        """Return once it works. Raises `MemoryWorkerError` if it does not start."""
        give_up = time.monotonic() + _TIMEOUT_S
        while " started " not in self._logged():
            self.check()
            if time.monotonic() > give_up:
                raise MemoryWorkerError(f"the worker did not start within {_TIMEOUT_S:g} s: {self._logged()}")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise `MemoryWorkerError` if it has ended."""
        if self._process.poll() is not None:
            raise MemoryWorkerError(f"the worker ended: {self._logged()}")

    def kill(self) -> None:
        """End it as ``kill -9`` does: it can finish nothing."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """End it as SIGTERM does: it finishes what it is doing."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TIMEOUT_S)
        self.kill()

    def _logged(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])


class Qdrant:
    """Qdrant's engine, which runs as a child process with its data in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._engine: Engine | None = None

    def start(self) -> None:
        """Start it with the data that it has, always at the same address."""
        self._engine = start_edge(self._directory, port=self._port)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self._engine is not None and self._engine.pid is not None:
            os.kill(self._engine.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._engine is not None:
            self._engine.stop()
        self._engine = None


class Processes:
    """All processes. ``settings`` are those of the worker, and ``queue`` is the client of the app."""

    def __init__(self, settings: Settings) -> None:
        with ExitStack() as started:
            redis_url = started.enter_context(start_valkey(settings.data_dir)).url
            self.qdrant = Qdrant(settings.data_dir)
            started.callback(self.qdrant.stop)
            self.settings = settings.model_copy(
                update={"redis_url": SecretStr(redis_url), "qdrant_url": self.qdrant.url}
            )
            self.queue = started.enter_context(SyncMemoryQueue.connect(redis_url, prefix=settings.queue_prefix))
            self._workers = 0
            self.start_worker()
            started.callback(self._stop_worker)
            self.qdrant.start()  # while the worker loads
            self.worker.wait_until_ready()
            self._started = started.pop_all()

    def start_worker(self) -> None:
        """Start a worker. `Worker.wait_until_ready` waits for it."""
        self._workers += 1
        self.worker = Worker(self.settings, self.settings.data_dir / f"worker-{self._workers}.log")

    def _stop_worker(self) -> None:
        self.worker.stop()  # the one that runs by now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()
