"""Figures: what one measurement came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self, TypeAlias

import msgspec

Loop = Literal["closed", "open", "total"]


class Quantiles(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Quantiles of latencies in milliseconds; none of them where no call succeeded."""

    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None

    @classmethod
    def of(cls, times_s: Sequence[float]) -> Self:
        """Return those of ``times_s`` (seconds)."""
        if not times_s:
            return cls()
        ordered = [time_s * 1000 for time_s in sorted(times_s)]
        return cls(
            p50_ms=quantile(ordered, 0.5),
            p90_ms=quantile(ordered, 0.9),
            p99_ms=quantile(ordered, 0.99),
            max_ms=ordered[-1],
        )


class Figure(Quantiles, frozen=True, kw_only=True, omit_defaults=True):
    """One measurement: quantiles in milliseconds, ``took_s`` in seconds, ``rate`` in successful calls a second.

    ``loop`` says how the calls came. ``closed``: each of ``callers`` waits for its answer before it calls again.
    ``open``: at fixed times, ``asked_rate`` a second, answered or not; times count from when a call was due, so that
    waiting for one's turn counts. ``total``: many in one go, with nothing but a rate.

    ``calls`` succeeded, ``sent`` were made, those to warm up among them; ``errors`` counts those that failed, by what
    they ended with. ``cpu_us`` is the CPU time of processes, in microseconds a call.
    """

    loop: Loop
    calls: int
    took_s: float
    rate: float
    sent: int = 0
    callers: int = 1
    asked_rate: float = 0.0
    errors: dict[str, int] = {}
    cpu_us: dict[str, float] = {}


Round: TypeAlias = dict[str, Figure]
"""What one round measured, by the names of `memory_worker.bench.names`."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ordered values that ``share`` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
