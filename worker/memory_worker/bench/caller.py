"""A process that calls, us or Qdrant directly, and measures; so that all are measured alike, and undisturbed.

    python -m memory_worker.bench.caller own|direct TERMS

It says ``ready`` on its standard error, reads tasks from its standard input, a JSON list a line, does those of a line
at the same time, and writes to its standard output how far it is and what it came to. It ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress

import msgspec
import uvloop

from memory_worker.bench.direct_calls import direct_paths
from memory_worker.bench.figures import Figure
from memory_worker.bench.load import Load, Terms
from memory_worker.bench.loops import described
from memory_worker.bench.own_calls import own_paths
from memory_worker.bench.tasks import Answer, OnCalls, Paths, Progress, Task
from memory_worker.settings import Settings, load_settings

_TELL_EVERY_S = 0.2
_OPENERS: dict[str, Callable[[Settings, Load], AbstractAsyncContextManager[Paths]]] = {
    "own": own_paths,
    "direct": direct_paths,
}


async def _main(kind: str, terms: Terms) -> None:
    load = Load(**msgspec.structs.asdict(terms))
    gc.collect()
    gc.freeze()  # half a million numbers of vectors, which every collection would look through
    async with _OPENERS[kind](load_settings(), load) as paths:
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            tasks = msgspec.json.decode(line, type=list[Task])
            _tell(Answer(await _done(tasks, paths)))


async def _done(tasks: list[Task], paths: Paths) -> list[Figure]:
    """Do tasks at the same time, telling now and then how far they are."""
    done = 0

    def on_calls(calls: int) -> None:
        nonlocal done
        done += calls

    async def report() -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            _tell(Progress(done))

    telling = asyncio.create_task(report())
    try:
        return list(await asyncio.gather(*(_guarded(paths, task, on_calls) for task in tasks)))
    finally:
        await _ended(telling)


def _guarded(paths: Paths, task: Task, on_calls: OnCalls) -> Coroutine[None, None, Figure]:
    async def run() -> Figure:
        try:
            return await paths[task.path](task, on_calls)
        except Exception as error:  # noqa: BLE001  # it is told, and the run goes on
            return Figure(loop="total", calls=0, took_s=0.0, rate=0.0, errors={described(error): 1})

    return run()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _tell(what: Progress | Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(_main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Terms)))
