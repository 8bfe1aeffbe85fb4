"""The page of checks. They are run if somebody looks, but not more often than once per minute."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import Any

from memory_worker.console.query import Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.inspection.checks import Check

EVERY_S = 60.0
_FIRST_WAIT_S = 3.0
_RELOAD_S = 3
_ORDER = {"failed": 0, "warning": 1, "ok": 2}


class CheckRunner:
    """Runs the checks in the worker's event loop, one run at a time, and keeps the last results."""

    def __init__(self, sources: ConsoleSources) -> None:
        self._sources = sources
        self._running: Future[list[Check]] | None = None
        self._results: list[Check] | None = None
        self._error = ""
        self._at = 0.0

    async def page(self, _sources: ConsoleSources, _query: Query) -> dict[str, Any]:
        """Return what the page shows: the last results, or those of a run that ends within a few seconds."""
        self._take_results()
        if self._running is None and time.time() - self._at > EVERY_S:
            self._running = self._sources.run_checks()
        if self._running is not None and self._results is None:
            await asyncio.wait([asyncio.wrap_future(self._running)], timeout=_FIRST_WAIT_S)
            self._take_results()
        results = self._results or []
        return {
            "results": sorted(results, key=lambda check: _ORDER[check.verdict]),
            "counts": {verdict: sum(one.verdict == verdict for one in results) for verdict in _ORDER},
            "at": self._at,
            "is_running": self._running is not None,
            "error": self._error,
            "refresh": _RELOAD_S if self._running is not None else 0,
        }

    def _take_results(self) -> None:
        running = self._running
        if running is None or not running.done():
            return
        self._running, self._at = None, time.time()
        if running.cancelled():
            self._error = "The checks were stopped."
        elif error := running.exception():
            self._error = f"{type(error).__name__}: {error}"
        else:
            self._results, self._error = running.result(), ""
