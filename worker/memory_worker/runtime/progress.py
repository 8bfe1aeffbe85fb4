"""Says in the log how a worker is doing, as long as anything happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn

from memory_worker.inspection.status import Status
from memory_worker.telemetry.counters import counters, growth, quantile_s
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 30.0


class Progress:
    """What one process has done since its last report. ``stats`` returns the state of the queue, if it is known.

    ``now`` is a monotonic clock in seconds.
    """

    def __init__(self, stats: Callable[[], Status | None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._stats = stats
        self._now = now
        self._reported_at, self._reported = now(), counters()

    def report(self) -> None:
        """Log a line, unless nothing happened: no job or read ended, and no job waits."""
        at, counted, stats = self._now(), counters(), self._stats()
        done, over_s = growth(self._reported, counted), at - self._reported_at
        self._reported_at, self._reported = at, counted
        waiting = stats.waiting if stats else 0
        if not (done.applied or done.dead or done.reads or waiting):
            return
        p99_s = quantile_s(done.read_seconds, 0.99)
        log_event(
            logger,
            logging.INFO,
            "progress",
            applied=done.applied,
            per_second=round(done.applied / max(over_s, 1e-9), 1),
            dead=done.dead,
            waiting=waiting,
            oldest_s=round(stats.oldest_age_s if stats else 0.0, 1),
            reads=done.reads,
            read_p99_ms=None if p99_s is None else round(p99_s * 1000, 1),
        )

    async def keep_reporting(self) -> NoReturn:
        """Report every `REPORT_EVERY_S` seconds until cancelled."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self.report()
