"""Worker processes for the benchmark, started as an operator starts them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.errors import MemoryWorkerError
from worker.settings import Settings, secret_file_variables, variables

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0


@asynccontextmanager
async def worker_process(settings: Settings, role: str) -> AsyncIterator[int]:
    """Run ``memory-worker run --role ROLE`` with these settings; yield its process id once it works."""
    async with _process([sys.executable, "-m", "worker", "run", "--role", role], settings, ready=b"started") as pid:
        yield pid


@asynccontextmanager
async def peer_process(settings: Settings, module: str) -> AsyncIterator[int]:
    """Run a module of a peer, which says ``ready`` on standard error; yield its process id."""
    async with _process([sys.executable, "-m", module], settings, ready=b"ready") as pid:
        yield pid


@asynccontextmanager
async def _process(command: list[str], settings: Settings, *, ready: bytes) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**_inherited(), **environment(settings), "LOG_LEVEL": "INFO", "LOG_JSON": "false"},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None  # noqa: S101  # it was asked for
    log: list[bytes] = []
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while ready not in (line := await process.stderr.readline()):
                log.append(line)
                if not line:
                    raise MemoryWorkerError(f"{command[-1]} did not start: {b''.join(log).decode()}")
        reading = asyncio.create_task(_discard(process.stderr))
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    await reading


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
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
