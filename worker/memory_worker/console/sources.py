"""What the console shows, and how to get it. A worker process provides it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from redis.asyncio import Redis

from memory_worker.inspection.checks import Check
from memory_worker.inspection.history import Sample
from memory_worker.inspection.status import Status
from memory_worker.settings import Settings
from memory_worker.telemetry.health import Health
from memory_worker.wire.keys import Keys


@dataclass(frozen=True, slots=True)
class ConsoleSources:
    """The sources of the pages. All of them are used in the thread of the HTTP server.

    ``connect`` opens connections to Redis with short timeouts. ``run_checks`` runs the checks of the deployment in the
    worker's event loop.
    """

    settings: Settings
    role: str
    process_id: str
    health: Health
    stats: Callable[[], Status | None]
    history: Callable[[], list[Sample]]
    connect: Callable[[], AbstractAsyncContextManager[Redis]]
    run_checks: Callable[[], Future[list[Check]]]

    @property
    def keys(self) -> Keys:
        """The keys of the queue."""
        return Keys(self.settings.queue_prefix)
