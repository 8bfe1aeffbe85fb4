"""The processes of a benchmark: workers, started as an operator starts them, peers, and those that call."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import IO, TypeVar, cast

import msgspec

from memory_worker.bench.figures import Figure
from memory_worker.bench.load import Terms
from memory_worker.bench.tasks import Answer, Progress, Task
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.embedded.interpreter import python_command
from memory_worker.settings import Settings, foreign_variables, secret_file_variables, variables

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_TAIL_LINES = 20
_TROUBLE = re.compile(r"^\S+ (?:warning|error|critical) +(?P<event>\S+)")

_Entered = TypeVar("_Entered")

_decoder: msgspec.json.Decoder[Progress | Answer] = msgspec.json.Decoder(Progress | Answer)


class Process:
    """A child process; ``ready`` is the line in which it said so."""

    def __init__(self, process: subprocess.Popen[bytes], on_trouble: Callable[[str], None]) -> None:
        self.ready = ""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process = process
        self._on_trouble = on_trouble
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_ready(self, sign: str) -> None:
        """Return once it has written a line with ``sign``; then read on in a thread. Blocks."""
        log = self._pipe(self._process.stderr)
        while sign not in self.ready:
            line = log.readline()
            if not line:
                raise MemoryWorkerError(f"a process did not start: {' '.join(self.tail)}")
            self.ready = self._noted(line)
        self._reader = threading.Thread(target=self._read_on, args=(log,), daemon=True)
        self._reader.start()

    def ask(self, line: bytes) -> None:
        """Write a line to its standard input."""
        asked = self._pipe(self._process.stdin)
        asked.write(line + b"\n")
        asked.flush()

    def answer(self) -> bytes:
        """Return the next line of its standard output. Blocks. Raises `MemoryWorkerError` when it has ended."""
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise MemoryWorkerError(f"a process ended: {' '.join(self.tail)}")
        return line

    def end(self) -> None:
        """Let it end; kill it when it does not. Blocks."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._on_trouble("a process had to be killed")
        if self._reader is not None:
            self._reader.join(_STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            self._pipe(pipe).close()

    def _read_on(self, log: IO[bytes]) -> None:
        for line in log:
            self._noted(line)

    def _noted(self, line: bytes) -> str:
        text = line.decode(errors="replace").rstrip()
        self.tail.append(text)
        if trouble := trouble_in(text):
            self._on_trouble(trouble)
        return text

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # noqa: S101  # it was asked for
        return pipe


def trouble_in(line: str) -> str | None:
    """Return the event of a log line that is a warning, or worse."""
    found = _TROUBLE.match(line)
    return found["event"] if found else None


class Caller:
    """A process that calls and measures."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def run(self, *tasks: Task, on_progress: Callable[[int], None] = lambda _: None) -> list[Figure]:
        """Have tasks done at the same time; return what they came to, and tell meanwhile how many calls have ended."""
        self._process.ask(msgspec.json.encode(tasks))
        while True:
            told = _decoder.decode(await asyncio.to_thread(self._process.answer))
            if isinstance(told, Answer):
                return told.figures
            on_progress(told.done)


class Processes:
    """Starts processes with settings, and collects what goes wrong in them: warnings and errors that they log."""

    def __init__(self) -> None:
        self.troubles: dict[str, int] = {}

    @asynccontextmanager
    async def worker(self, settings: Settings, role: str) -> AsyncIterator[int]:
        """Run ``memory-worker run --role ROLE``; yield its process id once it works."""
        async with self._started(["memory_worker", "run", "--role", role], settings, ready=" started ") as process:
            yield process.pid

    @asynccontextmanager
    async def module(self, settings: Settings, *command: str) -> AsyncIterator[Process]:
        """Run a module that says ``ready`` on its standard error."""
        async with self._started(command, settings, ready="ready") as process:
            yield process

    @asynccontextmanager
    async def caller(self, settings: Settings, kind: str, terms: Terms) -> AsyncIterator[Caller]:
        """Run a process that calls: ``own`` for us, ``direct`` for Qdrant."""
        described = msgspec.json.encode(terms).decode()
        async with self.module(settings, "memory_worker.bench.caller", kind, described) as process:
            yield Caller(process)

    @asynccontextmanager
    async def _started(self, command: Sequence[str], settings: Settings, *, ready: str) -> AsyncIterator[Process]:
        # Not asyncio's own: uvloop forks, and gRPC remarks on every fork beside it.
        popen = subprocess.Popen(  # noqa: ASYNC220,S603  # a start takes a millisecond; the command is ours
            python_command("memory_worker.bench.leashed", command),
            env={**_inherited(), **environment(settings), "LOG_LEVEL": "INFO", "LOG_JSON": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for us, who end it in turn
        )
        process = Process(popen, self._note)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await asyncio.to_thread(process.wait_until_ready, ready)
            yield process
        finally:
            await asyncio.to_thread(process.end)

    def _note(self, event: str) -> None:
        self.troubles[event] = self.troubles.get(event, 0) + 1


@asynccontextmanager
async def together(*contexts: AbstractAsyncContextManager[_Entered]) -> AsyncIterator[list[_Entered]]:
    """Enter contexts at the same time: processes take a second each to start."""
    async with AsyncExitStack() as stack:
        entered = await asyncio.gather(
            *(stack.enter_async_context(context) for context in contexts), return_exceptions=True
        )
        for one in entered:
            if isinstance(one, BaseException):
                raise one
        yield cast("list[_Entered]", entered)


def _inherited() -> dict[str, str]:
    """Return our own environment, but for the settings: they are what `environment` makes of them."""
    left_out = {*variables(), *secret_file_variables(), *(unknown.name for unknown in foreign_variables())}
    return {name: value for name, value in os.environ.items() if name not in left_out}


def environment(settings: Settings) -> dict[str, str]:
    """Return settings as the environment of a child process, secrets in the clear."""
    found = {}
    for name in settings.model_fields_set | {"redis_url", "qdrant_url"}:
        value = getattr(settings, name)
        if value is not None:
            found[name.upper()] = str(getattr(value, "get_secret_value", lambda value=value: value)())
    return found
