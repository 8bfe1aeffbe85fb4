"""The counters of a process that are summed over all processes: jobs, reads, and how long they took.

They are cumulative, so that the difference of two reports is what happened between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

import msgspec
from prometheus_client import Counter, Histogram

from memory_worker.telemetry.metrics import JOBS, PUSH_TO_APPLIED, READ_DURATION, READS, SECONDS
from memory_worker.telemetry.reading import buckets, quantile, total


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """What a process, or a fleet of them, has done.

    ``applied_seconds`` and ``read_seconds`` have the number of observations in each bucket of `BOUNDS_S`, and then the
    number of those above the last bound.
    """

    applied: int = 0
    dead: int = 0
    reads: int = 0
    failed_reads: int = 0
    applied_seconds: tuple[int, ...] = ()
    read_seconds: tuple[int, ...] = ()


BOUNDS_S: Final = SECONDS
"""The upper bounds of the buckets, in seconds."""


def counters() -> Counters:
    """Return the counters of this process. May be called in any thread."""
    reads, ok = _total(READS), _total(READS, outcome="ok")
    return Counters(
        applied=_total(JOBS, outcome="applied"),
        dead=_total(JOBS, outcome="dead"),
        reads=reads,
        failed_reads=reads - ok,
        applied_seconds=_buckets(PUSH_TO_APPLIED),
        read_seconds=_buckets(READ_DURATION),
    )


def growth(before: Counters, after: Counters) -> Counters:
    """Return what was counted between two reports of a process. It is never negative."""
    return Counters(
        applied=max(0, after.applied - before.applied),
        dead=max(0, after.dead - before.dead),
        reads=max(0, after.reads - before.reads),
        failed_reads=max(0, after.failed_reads - before.failed_reads),
        applied_seconds=_differences(before.applied_seconds, after.applied_seconds),
        read_seconds=_differences(before.read_seconds, after.read_seconds),
    )


def sum_of(reports: Iterable[Counters]) -> Counters:
    """Return the sum of several reports."""
    reports = list(reports)
    return Counters(
        applied=sum(one.applied for one in reports),
        dead=sum(one.dead for one in reports),
        reads=sum(one.reads for one in reports),
        failed_reads=sum(one.failed_reads for one in reports),
        applied_seconds=_sums([one.applied_seconds for one in reports]),
        read_seconds=_sums([one.read_seconds for one in reports]),
    )


def _total(counter: Counter, **labels: str) -> int:
    return int(total(counter, **labels))


def quantile_s(counts: Sequence[int], share: float) -> float | None:
    """Estimate a quantile in seconds, as Prometheus does. Return ``None`` if there are no observations.

    Above the last bound it is that bound.
    """
    return quantile(share, {}, dict(zip((*BOUNDS_S, math.inf), accumulate(counts), strict=False)))


def _buckets(histogram: Histogram) -> tuple[int, ...]:
    """Return the observations in each bucket, over all labels."""
    ordered = [int(count) for _, count in sorted(buckets(histogram).items())]
    return _differences((0, *ordered[:-1]), tuple(ordered))


def _differences(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    if len(before) != len(after):
        before = (0,) * len(after)
    return tuple(max(0, new - old) for old, new in zip(before, after, strict=True))


def _sums(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    width = max(map(len, rows), default=0)
    return tuple(sum(row[place] for row in rows if place < len(row)) for place in range(width))
