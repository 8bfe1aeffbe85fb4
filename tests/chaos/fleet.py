"""Worker processes, which are replaced when they end, as an orchestrator does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress

from tests.acceptance.processes import WorkerProcess

_CHECK_INTERVAL_S = 0.1


class Fleet:
    """``size`` ingest workers; ``restarts`` counts those that were replaced."""

    def __init__(self, size: int, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._workers = [self._new() for _ in range(size)]
        self.restarts = 0
        self.ended: list[WorkerProcess] = []

    def any(self, chance: random.Random) -> WorkerProcess:
        return chance.choice(self._workers)

    async def keep(self) -> None:
        """Replace workers that end, until cancelled."""
        while True:
            for position, worker in enumerate(self._workers):
                if worker.process.poll() is not None:
                    self.ended.append(worker)
                    self._workers[position] = self._new()
                    self.restarts += 1
            await asyncio.sleep(_CHECK_INTERVAL_S)

    def close(self) -> None:
        for worker in (*self._workers, *self.ended):
            with suppress(ProcessLookupError):
                worker.process.kill()
            worker.close()

    def _new(self) -> WorkerProcess:
        return WorkerProcess("ingest", self._environment)
