"""Ask how the queue and its workers are doing."""

from __future__ import annotations

from memory_worker.client.opened import Opened
from memory_worker.contract import Health, HealthReport, QueueReport
from memory_worker.contract.building import to_timeout_ms
from memory_worker.contract.errors import ReadFailed

HEALTH_TIMEOUT_S = 0.5


class Condition(Opened):
    """The methods that tell how the queue and its workers are doing."""

    async def status(self) -> QueueReport | None:
        """Return the latest state of the queue. It takes one command of Redis, and no worker.

        ``None`` means that no worker has published it for some seconds, so probably none is running.
        """
        return await self._producer.report()

    async def health(self, *, timeout: float = HEALTH_TIMEOUT_S) -> HealthReport:  # noqa: ASYNC109  # travels with the job
        """Return the answer of a worker that has asked Qdrant just now.

        Raises `ReadFailed` if no worker answers within ``timeout`` seconds, or if Qdrant does not.
        """
        found = (await self._producer.call(Health(timeout_ms=to_timeout_ms(timeout)))).health
        if found is None:
            raise ReadFailed("internal", "the reply has no health")
        return found
