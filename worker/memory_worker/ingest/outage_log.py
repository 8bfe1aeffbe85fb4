"""Reports outages in the log, without a line for each batch that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 60.0


class OutageLog:
    """Writes a line when an outage begins, when its reason changes, every `REPORT_EVERY_S` seconds, and when it ends.

    A reason that comes and goes has one line per `REPORT_EVERY_S` seconds. ``now`` is a monotonic clock in seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began: float | None = None
        self._failures = 0
        self._reported: dict[str, float] = {}  # when each reason had its last line
        self._is_reported = False

    def failed(self, partition: int, reason: str, error: Exception, *, delay_s: float) -> None:
        """Record that a batch failed for ``reason``, one of a few words, and is tried again after ``delay_s``."""
        now = self._now()
        if self._began is None:
            self._began = now
        self._failures += 1
        if now - self._reported.get(reason, float("-inf")) < REPORT_EVERY_S:
            return
        self._reported[reason] = now
        self._is_reported = True
        log_event(
            logger,
            logging.WARNING,
            "outage",
            reason=reason,
            partition=partition,
            since_s=now - self._began,
            failures=self._failures,
            retry_in_s=delay_s,
            error=str(error),
        )

    def ended(self) -> None:
        """Record that no partition has a batch that failed. Further calls have no effect."""
        if self._began is None:
            return
        if self._is_reported:
            lasted_s = self._now() - self._began
            log_event(logger, logging.INFO, "outage_over", lasted_s=lasted_s, failures=self._failures)
        self._began, self._failures, self._is_reported = None, 0, False
