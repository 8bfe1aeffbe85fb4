"""Worker processes for the benchmark, started as an operator starts them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from worker.errors import MemoryWorkerError
from worker.settings import Settings, secret_file_variables, variables

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0


@asynccontextmanager
async def worker_process(settings: Settings, role: str) -> AsyncIterator[int]:
    """Run ``memory-worker run --role ROLE`` with these settings; yield its process id once it works."""
    async with _process([sys.executable, "-m", "worker", "run", "--role", role], settings, ready="started") as pid:
        yield pid


@asynccontextmanager
async def peer_process(settings: Settings, module: str) -> AsyncIterator[int]:
    """Run a module of a peer, which says ``ready`` on standard error; yield its process id."""
    async with _process([sys.executable, "-m", module], settings, ready="ready") as pid:
        yield pid


@asynccontextmanager
async def _process(command: list[str], settings: Settings, *, ready: str) -> AsyncIterator[int]:
    # Not asyncio's own: uvloop forks, and gRPC remarks on every fork beside it.
    process = subprocess.Popen(  # noqa: ASYNC220,S603  # a start takes a millisecond; the command is ours
        command,
        env={**_inherited(), **environment(settings), "LOG_LEVEL": "INFO", "LOG_JSON": "false"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None  # noqa: S101  # it was asked for
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await asyncio.to_thread(_wait_until_ready, process.stderr, ready)
        threading.Thread(target=_discard, args=(process.stderr,), daemon=True).start()
        yield process.pid
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)


def _wait_until_ready(log: IO[str], ready: str) -> None:
    lines = []
    while ready not in (line := log.readline()):
        lines.append(line)
        if not line:
            raise MemoryWorkerError(f"a process did not start: {''.join(lines)}")


def _discard(log: IO[str]) -> None:
    with log:
        for _ in log:
            pass


def _inherited() -> dict[str, str]:
    """Return our own environment, but for the settings: they are what `environment` makes of them."""
    settings = {*variables(), *secret_file_variables()}
    return {name: value for name, value in os.environ.items() if name.upper() not in settings}


def environment(settings: Settings) -> dict[str, str]:
    """Return settings as the environment of a child process, secrets in the clear."""
    found = {}
    for name in settings.model_fields_set | {"redis_url", "qdrant_url"}:
        value = getattr(settings, name)
        if value is not None:
            found[name.upper()] = str(getattr(value, "get_secret_value", lambda value=value: value)())
    return found
