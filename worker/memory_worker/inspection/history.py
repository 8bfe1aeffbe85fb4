"""The last hour of the whole queue: rates, latencies and backlog, sampled every few seconds in each process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import QueueError
from memory_worker.inspection.fleet import Member, fleet
from memory_worker.inspection.status import Status
from memory_worker.telemetry.counters import Counters, growth, quantile_s, sum_of
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.keys import Keys

logger = logging.getLogger(__name__)

EVERY_S = 10.0
OVER_S = 3600.0
_MAX_SKEW_S = 5.0
_MEDIAN, _HIGH = 0.5, 0.99


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of the queue at a time (unix seconds), and what its workers did since the sample before.

    Rates are per second. Latencies are quantiles in seconds, and ``None`` if nothing was done. ``reporting`` counts the
    processes whose figures are included, of ``alive`` ones. The state is ``None`` if the queue stats are missing.
    """

    at: float
    alive: int
    reporting: int
    applied: float
    dead: float
    reads: float
    failed_reads: float
    applied_p50_s: float | None
    applied_p99_s: float | None
    read_p50_s: float | None
    read_p99_s: float | None
    waiting: int | None = None
    oldest_age_s: float | None = None


class History:
    """The samples of the last hour. `run` takes them in the event loop, and any thread may read them."""

    def __init__(
        self, redis: Redis, keys: Keys, stats: Callable[[], Status | None], *, now: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._stats = stats
        self._now = now
        self._counted: dict[str, Counters] = {}
        self._sampled_at: float | None = None
        self._samples: deque[Sample] = deque(maxlen=round(OVER_S / EVERY_S))

    async def run(self) -> None:
        """Take samples until cancelled. Errors leave a gap, because they must not end the worker."""
        while True:
            try:
                self.add(await fleet(self._redis, self._keys))
            except QueueError as error:
                log_event(logger, logging.DEBUG, "stats_failed", error=str(error))
            except Exception as error:  # noqa: BLE001
                log_event(logger, logging.ERROR, "stats_failed", failure=error)
            await asyncio.sleep(EVERY_S)

    def samples(self) -> list[Sample]:
        """Return the samples of the last hour, oldest first. May be called in any thread."""
        since = self._now() - OVER_S
        return [sample for sample in list(self._samples) if sample.at >= since]

    def add(self, members: Iterable[Member]) -> None:
        """Record what the processes have done since the last time. The first time there is nothing to compare."""
        members, now = list(members), self._now()
        reported = {member.process.id: member.report for member in members if member.report}
        before, self._counted = self._counted, {name: report.counters for name, report in reported.items()}
        sampled_at, self._sampled_at = self._sampled_at, now
        if sampled_at is None or now <= sampled_at:
            return
        # A process that has just started has done all of it since the last sample.
        fresh = [name for name, report in reported.items() if report.started_s > sampled_at - _MAX_SKEW_S]
        known = {**dict.fromkeys(fresh, Counters()), **before}
        done = sum_of(growth(known[name], report.counters) for name, report in reported.items() if name in known)
        self._samples.append(self._sample(done, now, now - sampled_at, len(members), len(reported)))

    def _sample(self, done: Counters, now: float, over_s: float, alive: int, reporting: int) -> Sample:
        stats = self._stats()
        return Sample(
            at=now,
            alive=alive,
            reporting=reporting,
            applied=done.applied / over_s,
            dead=done.dead / over_s,
            reads=done.reads / over_s,
            failed_reads=done.failed_reads / over_s,
            applied_p50_s=quantile_s(done.applied_seconds, _MEDIAN),
            applied_p99_s=quantile_s(done.applied_seconds, _HIGH),
            read_p50_s=quantile_s(done.read_seconds, _MEDIAN),
            read_p99_s=quantile_s(done.read_seconds, _HIGH),
            waiting=stats.waiting if stats else None,
            oldest_age_s=stats.oldest_age_s if stats else None,
        )
