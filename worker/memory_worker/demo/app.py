"""The app of the demo. It only knows Redis: it pushes requests one by one, and measures how long each push takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from memory_worker.client.blocking import SyncMemoryQueue
from memory_worker.contract import Receipt, WriteJob

_PAUSE_S = 0.002
"""Between two pushes, so that a viewer can follow."""
_REPORT_EVERY_S = 0.1


class App:
    """Pushes requests. From time to time it calls ``report`` with how many it has pushed, and how many wait."""

    def __init__(self, queue: SyncMemoryQueue, report: Callable[[int, int], None]) -> None:
        self.pushed = 0
        self._queue = queue
        self._report = report
        self._reported_at = 0.0
        self._unapplied: list[Receipt] = []

    def push(self, requests: Iterable[WriteJob]) -> list[float]:
        """Push requests in order. Return how many milliseconds each push took."""
        times_ms = []
        for request in requests:
            started = time.perf_counter()
            receipts = self._queue.push_many([request])
            times_ms.append((time.perf_counter() - started) * 1000)
            self._unapplied += receipts
            self.pushed += 1
            if time.monotonic() - self._reported_at > _REPORT_EVERY_S:
                self.waiting()
            time.sleep(_PAUSE_S)
        return times_ms

    def waiting(self) -> int:
        """Ask Redis how many requests are not applied yet."""
        if self._unapplied:
            states = self._queue.states(self._unapplied)
            self._unapplied = [state.receipt for state in states if state.state == "waiting"]
        self._report(self.pushed, len(self._unapplied))
        self._reported_at = time.monotonic()
        return len(self._unapplied)
