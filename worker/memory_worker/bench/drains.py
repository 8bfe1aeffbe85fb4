"""Watches a backlog go down: how many a second leave it, and what that costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from memory_worker.bench.figures import Figure
from memory_worker.bench.usage import cpu_s
from memory_worker.contract.errors import MemoryWorkerError

DRAIN_TIMEOUT_S = 3600.0
_STALLED_S = 60.0
_MEASURED_FROM, _MEASURED_TO = 0.05, 0.95
_SAMPLE_S = 0.02

Waiting = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    done: int
    cpu_s: Mapping[str, float] = field(default_factory=dict)


async def drained(
    waiting: Waiting, total: int, *, pids: Mapping[str, int], on_progress: Callable[[int], None] = lambda _: None
) -> Figure:
    """Watch a backlog of ``total`` go down to nothing; return how many a second left it.

    The first and the last 5% do not count: workers start, and the last partitions run dry one after another. Raises
    `MemoryWorkerError` when nothing has left it for a minute.
    """
    samples: list[_Sample] = []
    moved_at = time.monotonic()
    while not samples or samples[-1].done < total:
        done = total - await waiting()
        if not samples or done != samples[-1].done:
            moved_at = time.monotonic()
        samples.append(_Sample(time.perf_counter(), done, {name: cpu_s(pid) for name, pid in pids.items()}))
        on_progress(done)
        if time.monotonic() - moved_at > _STALLED_S:
            raise MemoryWorkerError(f"{total - done:,} of {total:,} wait, and nothing has moved for {_STALLED_S:g} s")
        await asyncio.sleep(_SAMPLE_S)
    return _figure(samples, total)


def _figure(samples: list[_Sample], total: int) -> Figure:
    counted = [sample for sample in samples if _MEASURED_FROM * total <= sample.done <= _MEASURED_TO * total]
    if len(counted) < 2 or counted[0].done == counted[-1].done:  # noqa: PLR2004  # a rate needs two points
        counted = [samples[0], samples[-1]]
    began, ended = counted[0], counted[-1]
    done, took_s = ended.done - began.done, ended.at - began.at
    cpu = {name: (ended.cpu_s[name] - began.cpu_s[name]) / max(1, done) * 1e6 for name in ended.cpu_s}
    return Figure(loop="total", calls=done, sent=total, took_s=took_s, rate=done / max(took_s, 1e-9), cpu_us=cpu)
