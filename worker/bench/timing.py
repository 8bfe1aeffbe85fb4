"""Measured times and rates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

_MEASURED_FROM, _MEASURED_TO = 0.05, 0.95
_SAMPLE_S = 0.02


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles in milliseconds, and how many a second there were."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    rate: float


async def closed_loop(call: Callable[[int], Awaitable[object]], *, count: int, callers: int = 1) -> Latency:
    """Call ``count`` times, each of ``callers`` waiting for its answer before the next call."""
    numbers = iter(range(count))
    times: list[float] = []

    async def caller() -> None:
        for number in numbers:
            started = time.perf_counter()
            await call(number)
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return latency(times, time.perf_counter() - started)


def latency(times_s: list[float], took_s: float) -> Latency:
    """Return the quantiles of ``times_s`` (seconds)."""
    ordered = sorted(times_s)

    def quantile(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000

    return Latency(p50_ms=quantile(0.5), p90_ms=quantile(0.9), p99_ms=quantile(0.99), rate=len(ordered) / took_s)


async def drained_rate(
    waiting: Callable[[], Awaitable[int]], total: int, *, timeout_s: float, on_progress: Callable[[int], None]
) -> float:
    """Watch a backlog of ``total`` go down to nothing; return how many a second left it.

    The first and the last 5% do not count: workers start, and the last partitions run dry one after another.
    """
    samples: list[tuple[float, int]] = []
    give_up = time.monotonic() + timeout_s
    while True:
        left = await waiting()
        samples.append((time.perf_counter(), total - left))
        on_progress(total - left)
        if left == 0:
            break
        if time.monotonic() > give_up:
            raise TimeoutError(f"{left:,} of {total:,} still wait after {timeout_s:g} s")
        await asyncio.sleep(_SAMPLE_S)
    counted = [sample for sample in samples if _MEASURED_FROM * total <= sample[1] <= _MEASURED_TO * total]
    if len(counted) < 2:  # noqa: PLR2004  # a rate needs two points
        counted = [samples[0], samples[-1]]
    (began, done_before), (ended, done_after) = counted[0], counted[-1]
    return (done_after - done_before) / (ended - began)
